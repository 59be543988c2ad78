"use strict";
(function () {
  var root = document.documentElement, toggle = document.getElementById("theme");
  toggle.hidden = false;
  toggle.addEventListener("click", function () {
    var chosen = root.getAttribute("data-theme");
    var dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.setAttribute("data-theme", dark ? "light" : "dark");
  });

  var table = document.getElementById("table"), body = table.tBodies[0];
  var rows = Array.prototype.slice.call(body.rows);
  var text = document.getElementById("text"), verdict = document.getElementById("verdict");
  var format = document.getElementById("format"), severity = document.getElementById("severity");
  var shown = document.getElementById("shown");
  var FIRST_COUNT = 3;

  function serious(row, level) {
    if (level === "") return true;
    for (var i = 0; i <= Math.min(Number(level), 3); i += 1) {
      if (Number(row.cells[FIRST_COUNT + i].textContent)) return true;
    }
    return Number(level) > 3;
  }
  function filter() {
    var wanted = text.value.toLowerCase(), count = 0;
    rows.forEach(function (row) {
      var fits = (!verdict.value || row.dataset.verdict === verdict.value) &&
        (!format.value || row.dataset.format === format.value) &&
        serious(row, severity.value) &&
        (!wanted || row.textContent.toLowerCase().indexOf(wanted) >= 0);
      row.hidden = !fits;
      count += fits ? 1 : 0;
    });
    shown.textContent = count + " of " + rows.length;
  }
  [text, verdict, format, severity].forEach(function (part) {
    part.addEventListener("input", filter);
  });
  document.getElementById("filters").hidden = false;
  filter();

  function key(row, column) {
    var value = row.cells[column].textContent.trim(), number = Number(value);
    return value !== "" && !Number.isNaN(number) ? number : value.toLowerCase();
  }
  Array.prototype.forEach.call(table.tHead.rows[0].cells, function (head, column, heads) {
    head.querySelector("button").addEventListener("click", function () {
      var up = head.getAttribute("aria-sort") !== "ascending";
      Array.prototype.forEach.call(table.tHead.rows[0].cells, function (other) {
        other.removeAttribute("aria-sort");
      });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      rows.sort(function (a, b) {
        var x = key(a, column), y = key(b, column);
        var order = typeof x === "number" && typeof y === "number" ? x - y
          : String(x).localeCompare(String(y), undefined, { numeric: true });
        return up ? order : -order;
      });
      rows.forEach(function (row) { body.appendChild(row); });
    });
  });
})();
