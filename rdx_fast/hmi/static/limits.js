// Limits of a job by precision and region, and their change with a reason.

import { isEngineer, post } from "./api.js";
import { decimal, decimalInput, field, h } from "./dom.js";
import { attempt, confirmed, note } from "./notes.js";
import { number, percent, t } from "./texts.js";

export function limitsPanel(job, reload) {
  const edit = h("div", {});
  const rows = job.limits.map((limit) =>
    h(
      "tr",
      {},
      h(
        "td",
        {},
        limit.execution,
        limit.execution === job.open_execution
          ? h("span", { class: "chip", data: { on: true } }, t("versions.open"))
          : null,
      ),
      h("td", {}, limit.region),
      h("td", { class: "figure" }, number(limit.ok_below, 4)),
      h("td", { class: "figure" }, number(limit.ng_above, 4)),
      h("td", {}, originText(limit.origin)),
      isEngineer()
        ? h(
            "td",
            {},
            h(
              "button",
              { type: "button", onclick: () => edit.replaceChildren(form(limit)) },
              t("limits.change"),
            ),
          )
        : null,
    ),
  );
  const columns = ["executed", "region", "ok_below", "ng_above", "origin"];
  const head = [
    ...columns.map((name) => h("th", { scope: "col" }, t(`column.${name}`))),
    isEngineer() && h("th", {}),
  ];

  function form(limit) {
    const ok = decimalInput({ required: true, value: limit.ok_below });
    const ng = decimalInput({ required: true, value: limit.ng_above });
    const reason = h("input", { required: true, maxlength: 300 });
    const enter = h("button", { class: "primary" }, t("limits.enter"));
    const wrong = h("p", { class: "wrong", role: "alert" });
    async function enterLimits(event) {
      event.preventDefault();
      const [low, high] = [decimal(ok), decimal(ng)];
      wrong.textContent = low > 0 && high >= low ? "" : t("limits.order");
      if (wrong.textContent) return;
      const body = {
        region: limit.region,
        executed: limit.executed,
        ok_below: low,
        ng_above: high,
        reason: reason.value.trim(),
        base: job.sha256,
      };
      const text = t("limits.confirm", {
        region: limit.region,
        executed: limit.executed,
        ok: number(low, 4),
        ng: number(high, 4),
        ok_before: number(limit.ok_below, 4),
        ng_before: number(limit.ng_above, 4),
      });
      const factor = farthest(low / limit.ok_below, high / limit.ng_above);
      const far = factor ? ` ${t("limits.far", { factor: number(factor, 3) })}` : "";
      if (!(await confirmed(t("limits.change"), text + far, t("limits.enter")))) return;
      if (await attempt(() => post(`/api/jobs/${job.job}/limits`, body), enter)) {
        note(t("job.released"));
        reload();
      }
    }
    const made = h(
      "form",
      { class: "edit", onsubmit: enterLimits },
      h("h3", {}, t("limits.of", { region: limit.region, executed: limit.executed })),
      field(t("column.ok_below"), ok),
      field(t("column.ng_above"), ng),
      field(t("column.reason"), reason, t("limits.reason_hint")),
      wrong,
      h(
        "div",
        { class: "actions" },
        h("button", { type: "button", onclick: () => made.remove() }, t("shell.cancel")),
        enter,
      ),
    );
    setTimeout(() => ok.focus());
    return made;
  }

  const element = h(
    "section",
    { class: "panel limits" },
    h("h2", {}, t("limits.title")),
    job.stale.length
      ? h("p", { class: "hint" }, t("limits.stale", { executions: job.stale.join(", ") }))
      : null,
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "plain" },
        h("thead", {}, h("tr", {}, head.filter(Boolean))),
        h("tbody", {}, rows),
      ),
    ),
    h("p", { class: "muted" }, t("limits.meaning")),
    edit,
  );
  return { element };
}

/** The factor by which a limit changes most; 0 if no decimal point can have slipped. */
function farthest(...factors) {
  const [most] = factors.sort((a, b) => Math.abs(Math.log(b)) - Math.abs(Math.log(a)));
  return most >= 5 || most <= 0.2 ? most : 0;
}

/** How both limits came about. */
function originText({ ok, ng }) {
  const told = ({ text, promised }) =>
    promised === null ? text : t("limits.promised", { text, share: percent(promised, 4) });
  return told(ok) === told(ng) ? told(ok) : `OK: ${told(ok)}; NG: ${told(ng)}`;
}
