(function () {
  "use strict";
  var root = document.documentElement;
  root.classList.add("script");
  var table = document.getElementById("mismatches");
  if (!table) { return; }
  var rows = Array.prototype.slice.call(table.querySelectorAll("tbody.one"));
  var texts = rows.map(function (row) {
    // What is seen of a row, not the evidence: other prisons stand there as well.
    return Array.prototype.map.call(row.rows[0].cells, function (cell) {
      return cell.textContent;
    }).join(" ").replace(/\s+/g, " ").toLowerCase();
  });
  var form = document.getElementById("find");
  var input = document.getElementById("find-text");
  var count = document.getElementById("find-count");
  form.hidden = false;
  form.addEventListener("submit", function (event) { event.preventDefault(); });

  function say(shown) {
    count.textContent = shown === rows.length
      ? "Showing all " + rows.length
      : "Showing " + shown + " of " + rows.length;
  }

  function filter() {
    var words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    var shown = 0;
    rows.forEach(function (row, place) {
      var fits = words.every(function (word) { return texts[place].indexOf(word) >= 0; });
      row.hidden = !fits;
      if (fits) { shown += 1; }
    });
    say(shown);
  }

  input.addEventListener("input", filter);
  input.addEventListener("keydown", function (event) {
    if (event.key === "Escape") { input.value = ""; filter(); }
  });

  var heads = Array.prototype.slice.call(table.querySelectorAll("thead th[data-key]"));
  heads.forEach(function (head) {
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    var arrow = document.createElement("span");
    arrow.className = "arrow";
    arrow.setAttribute("aria-hidden", "true");
    button.appendChild(arrow);
    head.textContent = "";
    head.appendChild(button);
    button.addEventListener("click", function () { sort(head); });
  });

  // What a row is sorted by: what is seen in the column, unless the row says otherwise, as for times.
  function key(row, name, column) {
    return row.getAttribute("data-" + name) || row.rows[0].cells[column].textContent.trim();
  }

  function sort(head) {
    var name = head.getAttribute("data-key");
    var column = heads.indexOf(head);
    var falling = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(function (each) {
      each.removeAttribute("aria-sort");
      each.querySelector(".arrow").textContent = "";
    });
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    head.querySelector(".arrow").textContent = falling ? "▼" : "▲";
    rows.slice().sort(function (one, other) {
      var order = key(one, name, column).localeCompare(key(other, name, column), "en", { numeric: true });
      return falling ? -order : order;
    }).forEach(function (row) { table.appendChild(row); });
  }
  say(rows.length);
})();
