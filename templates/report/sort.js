// Sorts the differences by a column, both ways; the headings become buttons.
(function () {
  "use strict";
  const table = document.getElementById("mismatches");
  if (!table) { return; }
  const rows = Array.from(table.querySelectorAll("tbody.one"));
  const heads = Array.from(table.querySelectorAll("thead th[data-key]"));

  // The sort key of a row: the text of the column, or for times the value in the attributes of the row.
  function key(row, name, column) {
    return (name === "since" && row.dataset.since) || row.rows[0].cells[column].textContent.trim();
  }

  function sort(head) {
    const name = head.dataset.key;
    const column = heads.indexOf(head);
    const falling = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((each) => {
      each.removeAttribute("aria-sort");
      each.querySelector(".arrow").textContent = "";
    });
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    head.querySelector(".arrow").textContent = falling ? "▼" : "▲";
    rows.slice().sort((one, other) => {
      const order = key(one, name, column).localeCompare(key(other, name, column), "en", { numeric: true });
      return falling ? -order : order;
    }).forEach((row) => { table.appendChild(row); });
  }

  heads.forEach((head) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    const arrow = document.createElement("span");
    arrow.className = "arrow";
    arrow.setAttribute("aria-hidden", "true");
    button.append(arrow);
    head.replaceChildren(button);
    button.addEventListener("click", () => { sort(head); });
  });
})();
