// Saves the differences with a cause, or the rows that are shown, as CSV. The lines are in the page, as a page that came
// by email has no file next to it. Without this script, or in an old browser, the links lead to the whole file.
(function () {
  "use strict";
  const packed = document.getElementById("csv");
  if (!packed || !window.DecompressionStream) { return; }
  const rows = Array.from(document.querySelectorAll("#mismatches tbody.one"));

  async function lines() {
    const bytes = Uint8Array.from(packed.content.textContent.match(/../g), (digits) => parseInt(digits, 16));
    const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(unpacked).text());
  }

  async function save(chosen, suffix) {
    const [heading, ...all] = await lines();
    // The lines are in the order of the row numbers, however the rows are sorted now.
    const numbers = chosen.map((row) => Number(row.rows[0].cells[0].textContent)).sort((one, other) => one - other);
    // With this first character Excel reads the file as UTF-8.
    const file = new Blob(["\ufeff", heading, ...numbers.map((number) => all[number - 1])], { type: "text/csv" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = packed.dataset.name.replace(/\.csv$/, suffix + ".csv");
    link.click();
    URL.revokeObjectURL(link.href);
  }

  document.querySelectorAll("a[data-csv]").forEach((link) => {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      save(rows.filter((row) => row.dataset.cause === link.dataset.csv), "-" + link.dataset.csv);
    });
  });
  document.getElementById("find-csv").addEventListener("click", (event) => {
    event.preventDefault();
    const shown = rows.filter((row) => !row.hidden);
    save(shown, shown.length === rows.length ? "" : "-filtered");
  });
})();
