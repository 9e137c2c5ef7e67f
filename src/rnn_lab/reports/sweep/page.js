"use strict";
// Sorts tables, highlights the run under the pointer and selects runs by brushing the axes of the
// parallel coordinates. Without it the page is complete, but static.
(function () {
  const tip = document.getElementById("tip");

  // ---- Sorting ----

  function number(cell) {
    const value = cell.dataset.value;
    return value === undefined || value === "" ? null : Number(value);
  }

  function comparator(kind, column, sign) {
    return function (one, other) {
      const first = one.cells[column], second = other.cells[column];
      const x = number(first), y = number(second);
      if (x !== null && y !== null) return sign * (x - y);
      // In both directions: numbers before words, and blanks at the end.
      if (kind === "number" || x !== null || y !== null) return (x === null) - (y === null);
      const a = first.textContent.trim(), b = second.textContent.trim();
      return sign * a.localeCompare(b, "en", { numeric: true });
    };
  }

  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", function () {
      const heading = button.closest("th"), table = heading.closest("table");
      const sorted = heading.getAttribute("aria-sort");
      const down = sorted ? sorted === "ascending" : heading.dataset.first === "down";
      for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0], rows = Array.from(body.rows);
      rows.sort(comparator(heading.dataset.kind, heading.cellIndex, down ? -1 : 1));
      body.append(...rows);
    });
  }

  // ---- Hover ----

  let highlighted = [];

  function highlight(attribute, value) {
    for (const one of highlighted) one.classList.remove("highlighted");
    highlighted = value === undefined ? [] : Array.from(
      document.querySelectorAll("[data-" + attribute + "=\"" + CSS.escape(value) + "\"]"));
    for (const one of highlighted) one.classList.add("highlighted");
    document.body.classList.toggle("highlighting", highlighted.length > 0);
  }

  function showTip(event, text) {
    tip.textContent = text;
    tip.hidden = false;
    const gap = 14, box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + gap, window.innerWidth - box.width - 8);
    const below = event.clientY + gap + box.height < window.innerHeight;
    tip.style.left = Math.max(4, x) + "px";
    tip.style.top = (below ? event.clientY + gap : event.clientY - gap - box.height) + "px";
  }

  document.addEventListener("pointermove", function (event) {
    const target = event.target;
    const run = target.closest ? target.closest("[data-run]") : null;
    const group = target.closest ? target.closest("[data-group-key]") : null;
    if (run) {
      highlight("run", run.dataset.run);
      if (run.dataset.tip) showTip(event, run.dataset.tip); else tip.hidden = true;
    } else {
      if (group) highlight("group", group.dataset.groupKey); else highlight();
      tip.hidden = true;
    }
  });

  // ---- Brushing ----

  const chart = document.getElementById("parallel");

  function select() {
    const brushes = Array.from(chart.querySelectorAll(".brush"), function (brush) {
      const y = Number(brush.getAttribute("y")), height = Number(brush.getAttribute("height"));
      return height ? [y, y + height] : null;
    });
    const active = brushes.some((brush) => brush !== null);
    const lines = Array.from(chart.querySelectorAll(".line"));
    const selected = new Set(lines.filter(function (line) {
      const ys = line.dataset.ys.trim().split(" ").map(Number);
      return brushes.every((brush, i) => !brush || (brush[0] <= ys[i] && ys[i] <= brush[1]));
    }).map((line) => line.dataset.run));
    for (const one of document.querySelectorAll("[data-run]")) {
      one.classList.toggle("unselected", active && !selected.has(one.dataset.run));
    }
    document.getElementById("selected").textContent =
      active ? "Selected: " + selected.size + " of " + lines.length + " runs." : "";
  }

  for (const handle of chart ? chart.querySelectorAll(".handle") : []) {
    const brush = handle.previousElementSibling;
    let start = null;

    function position(event) {  // in the coordinates of the SVG
      const box = chart.getBoundingClientRect();
      return (event.clientY - box.top) * chart.viewBox.baseVal.height / box.height;
    }

    function move(event) {
      if (start === null) return;
      const end = position(event), height = Math.abs(end - start);
      brush.setAttribute("y", Math.min(start, end));
      brush.setAttribute("height", height < 3 ? 0 : height);  // a click clears the axis
      select();
    }

    handle.addEventListener("pointerdown", function (event) {
      start = position(event);
      handle.setPointerCapture(event.pointerId);
      move(event);
      event.preventDefault();
    });
    handle.addEventListener("pointermove", move);
    handle.addEventListener("pointerup", function () { start = null; });
    handle.addEventListener("pointercancel", function () { start = null; });
  }

  document.documentElement.dataset.ready = "yes";
})();
