"use strict";
// A click on a heading sorts by that column: up, down, then the paper's order again. What has no value stays last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  for (const [column, head] of heads.entries()) {
    head.querySelector("button").addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const next = now === null ? "ascending" : now === "ascending" ? "descending" : null;
      for (const other of heads) other.removeAttribute("aria-sort");
      if (next) head.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      const value = (row) => {
        const text = row.cells[column].dataset.v;
        return text === undefined || text === "" ? null : head.classList.contains("n") ? Number(text) : text;
      };
      const order = (a, b) => {
        const x = value(a), y = value(b);
        if (x === null || y === null) return (x === null) - (y === null);
        return sign * (typeof x === "number" ? x - y : x.localeCompare(y));
      };
      body.append(...(next ? [...rows].sort(order) : rows));
    });
  }
}
// On a narrow screen the contents start closed.
const contents = document.querySelector("nav details");
if (contents && window.matchMedia("(max-width: 999px)").matches) contents.open = false;
