// Who changed what, and whether the log is whole.

import { get, isEngineer } from "./api.js";
import { h, select } from "./dom.js";
import { complain } from "./notes.js";
import { has, moment, t } from "./texts.js";

export function open(root) {
  const chain = h("p", { class: "chain", role: "status" });
  const rows = h("tbody", {});
  const last = select([["200", "200"], ["1000", "1000"], ["5000", "5000"]], "200", { onchange: () => load() });
  const only = select([["", t("parts.any")]], "", { onchange: () => draw() });
  root.append(h("h1", {}, t("audit.title")));
  if (!isEngineer()) {
    root.append(h("p", { class: "hint" }, t("error.role_needed")));
    return () => {};
  }
  root.append(
    chain,
    h(
      "div",
      { class: "bar" },
      h("label", { class: "field" }, h("span", {}, t("audit.last")), last),
      h("label", { class: "field" }, h("span", {}, t("column.action")), only),
    ),
    h(
      "div",
      { class: "panel scroll" },
      h(
        "table",
        { class: "plain wide" },
        h("thead", {}, h("tr", {}, ["time", "user", "action", "before", "after"].map((name) => h("th", { scope: "col" }, t(`column.${name}`))))),
        rows,
      ),
    ),
  );
  let closed = false;
  let entries = [];

  function draw() {
    const shown = entries.filter((entry) => !only.value || entry.action === only.value);
    rows.replaceChildren(...shown.map(row));
  }

  async function load() {
    try {
      const told = await get("/api/audit", { last: last.value });
      if (closed) return;
      entries = [...told.changes].sort((a, b) => (a.time < b.time ? 1 : -1));
      const kept = only.value;
      const actions = [...new Set(entries.map((entry) => entry.action))].sort();
      only.replaceChildren(...[["", t("parts.any")], ...actions.map((a) => [a, actionText(a)])].map(([value, text]) => h("option", { value }, text)));
      only.value = kept;
      chain.dataset.state = told.chain === "ok" ? "ok" : "broken";
      chain.textContent = told.chain === "ok" ? t("audit.whole") : t("audit.broken", { detail: told.chain });
      draw();
    } catch (error) {
      if (!closed) complain(error);
    }
  }
  load();
  return () => (closed = true);
}

export const actionText = (action) => (has(`action.${action}`) ? t(`action.${action}`) : action);

const row = (entry) =>
  h(
    "tr",
    {},
    h("td", { class: "nowrap" }, moment(entry.time)),
    h("td", {}, entry.user),
    h("td", {}, actionText(entry.action)),
    h("td", {}, values(entry.before)),
    h("td", {}, values(entry.after)),
  );

/** The values of an entry, one a line; nested ones as JSON. */
export const values = (facts) =>
  h(
    "ul",
    { class: "values" },
    Object.entries(facts ?? {}).map(([name, value]) => {
      if (/^[0-9a-f]{64}$/.test(value)) return h("li", {}, h("span", {}, `${name} `), h("code", { title: value }, value.slice(0, 12)));
      const text = value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
      return h("li", {}, h("span", {}, `${name} `), text.length > 80 ? h("details", {}, h("summary", {}, `${text.slice(0, 60)}…`), text) : text);
    }),
  );
