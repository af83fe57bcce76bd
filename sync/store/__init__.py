"""The database: tables, migrations, and what is kept in them."""
