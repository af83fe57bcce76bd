// Filters the differences by a link, the address or typed text. The filter is kept in the fragment of the address, so
// that it can be shared: #prison=LEI&standing=new for a filter, or the id of a row for one difference.
(function () {
  "use strict";
  document.documentElement.classList.add("script");
  const table = document.getElementById("mismatches");
  if (!table) { return; }
  const rows = Array.from(table.querySelectorAll("tbody.one"));
  // The id of a row begins with its cause.
  rows.forEach((row) => { row.dataset.cause = row.id.split("--")[0]; });
  // The text of a row without its evidence, which may name other prisons.
  const texts = rows.map((row) => Array.from(row.rows[0].cells, (cell) => cell.textContent).join(" ")
    .replace(/\s+/g, " ").toLowerCase());
  const form = document.getElementById("find");
  const input = document.getElementById("find-text");
  const count = document.getElementById("find-count");
  const all = document.getElementById("find-all");
  const TYPED = "find";
  let wanted = new URLSearchParams();

  // The names of the filters in the tables: a name that is typed in full filters exactly like its link.
  const names = new Map();
  const queries = new Map();
  document.querySelectorAll("a[data-filter]").forEach((link) => {
    const query = link.dataset.filter;
    const name = link.dataset.name || link.textContent;
    link.href = query ? "#" + query : "#all";
    link.addEventListener("click", () => {
      if (!query) { showAll(); }
      if (link.hash === location.hash) { show(); }
    });
    if (!names.has(query)) {
      names.set(query, name);
      queries.set(name.toLowerCase(), query);
    }
  });

  function has(row, name, value) {
    return (row.dataset[name] || "").split(" ").includes(value);
  }

  function filter() {
    const typed = input.value.trim().toLowerCase();
    const exact = queries.get(typed);
    const filters = [...wanted, ...new URLSearchParams(exact || "")];
    const words = exact ? [] : typed.split(/\s+/);
    let shown = 0;
    rows.forEach((row, place) => {
      row.hidden = !filters.every(([name, value]) => has(row, name, value))
        || !words.every((word) => texts[place].includes(word));
      shown += row.hidden ? 0 : 1;
    });
    const called = Array.from(wanted, ([name, value]) => {
      const query = new URLSearchParams([[name, value]]).toString();
      return names.get(query) || name + " " + value;
    });
    count.textContent = (shown === rows.length ? "Showing all " : "Showing " + shown + " of ") + rows.length
      + (called.length ? ": " + called.join(", ") : "");
    all.hidden = !called.length && !typed;
  }

  function keepInAddress() {
    const state = new URLSearchParams(wanted);
    if (input.value.trim()) { state.set(TYPED, input.value.trim()); }
    const fragment = state.toString();
    history.replaceState(null, "", fragment ? "#" + fragment : location.href.split("#")[0]);
  }

  function showAll() {
    wanted = new URLSearchParams();
    input.value = "";
    keepInAddress();
    filter();
  }

  function show() {
    document.getElementById("all").scrollIntoView();
    count.focus({ preventScroll: true });
  }

  function readAddress() {
    const fragment = location.hash.slice(1);
    if (fragment.includes("=")) {
      wanted = new URLSearchParams(fragment);
      input.value = wanted.get(TYPED) || "";
      wanted.delete(TYPED);
      filter();
      show();
      return;
    }
    const row = fragment && document.getElementById(fragment);
    if (!row || !rows.includes(row)) { return; }
    if (row.hidden) {
      wanted = new URLSearchParams();
      input.value = "";
      filter();
    }
    row.querySelector("details").open = true;
    row.scrollIntoView();
  }

  form.hidden = false;
  count.tabIndex = -1;
  form.addEventListener("submit", (event) => { event.preventDefault(); });
  input.addEventListener("input", () => { filter(); keepInAddress(); });
  input.addEventListener("keydown", (event) => { if (event.key === "Escape") { showAll(); } });
  all.addEventListener("click", () => { showAll(); input.focus(); });
  window.addEventListener("hashchange", readAddress);
  filter();
  readAddress();
})();
