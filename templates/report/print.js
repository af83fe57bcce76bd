// Prints the rows that are shown, with their evidence on request. All other closed parts are opened for printing.
(function () {
  "use strict";
  let opened = [];

  function open(details) {
    details.filter((each) => !each.open).forEach((each) => {
      each.open = true;
      opened.push(each);
    });
  }

  window.addEventListener("beforeprint", () => {
    open(Array.from(document.querySelectorAll("details")).filter((each) => !each.closest("tbody.one")));
  });
  window.addEventListener("afterprint", () => {
    opened.forEach((each) => { each.open = false; });
    opened = [];
  });

  const table = document.getElementById("mismatches");
  if (!table) { return; }
  document.getElementById("print").addEventListener("click", () => { window.print(); });
  document.getElementById("print-evidence").addEventListener("click", () => {
    open(Array.from(table.querySelectorAll("tbody.one:not([hidden]) details")));
    window.print();
  });
})();
