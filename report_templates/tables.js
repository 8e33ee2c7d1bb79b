"use strict";
// Tables can be sorted by any column and their rows filtered; without this script they stay as
// they are. Blocks of rows keep their heading on top and rows about the others at the bottom.
(() => {
  const words = document.documentElement.dataset;
  const text = (row, column) => (row.cells[column] ? row.cells[column].textContent.trim() : "");
  const number = (content) => {
    const found = content.replace(/\u2212/g, "-").replace(",", ".").match(/-?\d+(\.\d+)?/);
    return found ? parseFloat(found[0]) : NaN;
  };

  const compare = (column, sign) => (one, other) => {
    const [a, b] = [text(one, column), text(other, column)];
    if (column === 0) return sign * a.localeCompare(b, undefined, { numeric: true });
    const [x, y] = [number(a), number(b)];
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y); // unknown numbers last, either way
    return sign * (x - y);
  };

  const sort = (table, head, column) => {
    const ascending = head.getAttribute("aria-sort") === "descending" ||
      (column === 0 && head.getAttribute("aria-sort") !== "ascending");
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    for (const body of table.tBodies) {
      const rows = [...body.querySelectorAll("tr.data")];
      const end = body.querySelector("tr.minor");
      rows.sort(compare(column, ascending ? 1 : -1));
      for (const row of rows) body.insertBefore(row, end);
    }
  };

  const filter = (table, wanted) => {
    for (const body of table.tBodies) {
      const heading = body.querySelector("tr.heading");
      const block = heading ? heading.textContent : "";
      let shown = 0;
      for (const row of body.querySelectorAll("tr.data")) {
        row.hidden = !`${block} ${text(row, 0)}`.toLowerCase().includes(wanted);
        shown += !row.hidden;
      }
      for (const row of body.querySelectorAll("tr.heading, tr.minor")) row.hidden = shown === 0;
    }
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = table.tHead.rows[table.tHead.rows.length - 1].cells;
    [...heads].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = words.sort;
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, head, column));
      head.append(button);
    });
    const label = document.createElement("label");
    const field = document.createElement("input");
    field.type = "search";
    field.addEventListener("input", () => filter(table, field.value.trim().toLowerCase()));
    label.className = "filter";
    label.append(words.filter, " ", field);
    table.closest(".scroll").before(label);
  }

  // What was measured on this machine, if ../../timings/DATASET.js is there: no part of the report.
  const box = document.getElementById("timings");
  for (const [cell, stages] of Object.entries((box && window.timings) || {})) {
    const train = stages.train || {};
    const attacks = Object.keys(stages).filter((stage) => stage.startsWith("attack"));
    const total = attacks.reduce((sum, stage) => sum + (stages[stage].seconds || 0), 0);
    const values = [cell, train.seconds, train.epoch_seconds, total || undefined,
      train.peak_memory_mib, train.device];
    const row = box.querySelector("tbody").insertRow();
    for (const value of values) {
      row.insertCell().textContent = value === undefined || value === null ? "\u2014"
        : typeof value === "number" ? value.toLocaleString(document.documentElement.lang,
          { maximumFractionDigits: 1 }) : value;
    }
    box.hidden = false;
  }
})();
