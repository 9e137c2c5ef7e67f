"use strict";
// Sorts tables by a column and names runs under the pointer. The page reads as well without it.
(function () {
  function number(cell) {
    const value = cell.dataset.value;
    return value === undefined || value === "" ? null : Number(value);
  }

  function compare(kind, column, sign) {
    return function (one, other) {
      const first = one.cells[column], second = other.cells[column];
      const x = number(first), y = number(second);
      if (x !== null && y !== null) return sign * (x - y);
      // Numbers before words, and blanks at the end, whichever way.
      if (kind === "number" || x !== null || y !== null) return (x === null) - (y === null);
      const a = first.textContent.trim(), b = second.textContent.trim();
      return sign * a.localeCompare(b, "en", { numeric: true });
    };
  }

  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", function () {
      const head = button.closest("th"), table = head.closest("table");
      const again = head.getAttribute("aria-sort");
      const down = again ? again === "ascending" : head.dataset.first === "down";
      for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      const rows = Array.from(body.rows);
      rows.sort(compare(head.dataset.kind, head.cellIndex, down ? -1 : 1));
      body.append(...rows);
    });
  }

  const tip = document.getElementById("tip");
  let lit = [];

  function light(attribute, value) {
    for (const one of lit) one.classList.remove("lit");
    lit = value === undefined ? [] : Array.from(
      document.querySelectorAll("[data-" + attribute + "=\"" + CSS.escape(value) + "\"]"));
    for (const one of lit) one.classList.add("lit");
    document.body.classList.toggle("picking", lit.length > 0);
  }

  function show(event, text) {
    tip.textContent = text;
    tip.hidden = false;
    const room = 14, box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + room, window.innerWidth - box.width - 8);
    const below = event.clientY + room + box.height < window.innerHeight;
    tip.style.left = Math.max(4, x) + "px";
    tip.style.top = (below ? event.clientY + room : event.clientY - room - box.height) + "px";
  }

  document.addEventListener("pointermove", function (event) {
    const target = event.target;
    const run = target.closest ? target.closest("[data-run]") : null;
    const group = target.closest ? target.closest("[data-group-key]") : null;
    if (run) {
      light("run", run.dataset.run);
      if (run.dataset.tip) show(event, run.dataset.tip); else tip.hidden = true;
    } else {
      if (group) light("group", group.dataset.groupKey); else light();
      tip.hidden = true;
    }
  });

  document.documentElement.dataset.ready = "yes";
})();
