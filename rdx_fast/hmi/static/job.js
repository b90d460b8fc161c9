// A job: its bundle, limits, regions and versions. Operators read; engineers change.

import { get, isEngineer, post, query, session } from "./api.js";
import { values, actionText } from "./audit.js";
import { h, select } from "./dom.js";
import { limitsPanel } from "./limits.js";
import { attempt, complain, confirmed, note } from "./notes.js";
import { regionsPanel } from "./regions.js";
import { listen, stream } from "./stream.js";
import { moment, percent, t } from "./texts.js";
import { versionsPanel } from "./versions.js";

const RUNNING_MS = 2000; // while a task runs in the background

export function open(root, { query: given }) {
  const active = () => stream.status?.job?.id ?? null;
  const first = given.get("job") ?? active() ?? session.jobs[0]?.id ?? "";
  const job = select(
    session.jobs.map(({ id, name }) => [String(id), `${id} · ${name}`]),
    String(first),
    { onchange: () => load(true) },
  );
  const chosen = () => Number(job.value);
  const state = h("p", { class: "job-state" });
  const change = h("button", { type: "button", onclick: changeOver });
  const changeover = h("p", { class: "hint" });
  const task = h("div", { class: "task", role: "status", hidden: true });
  const body = h("div", { class: "job" });
  root.append(
    h("h1", {}, t("job.title")),
    h(
      "div",
      { class: "bar" },
      h("label", { class: "field" }, h("span", {}, t("column.job")), job),
      state,
      h("span", { class: "spacer" }),
      change,
    ),
    changeover,
    task,
    body,
  );
  if (!isEngineer()) root.insertBefore(h("p", { class: "muted" }, t("job.read_only")), body);
  let closed = false;
  let timer = 0;
  let panels = [];
  let told = null;

  async function load(anew) {
    clearTimeout(timer);
    const asked = chosen();
    try {
      const found = await get(`/api/jobs/${asked}`);
      if (closed || asked !== chosen()) return;
      const before = told;
      told = found;
      // A form that is being filled in stays as it is, unless something else was released.
      if (anew || before?.running !== null || shownOf(before) !== shownOf(told)) drawBody();
      drawHead();
    } catch (error) {
      if (!closed) complain(error);
    }
    if (!closed && told?.running && told.running.error === null)
      timer = setTimeout(() => load(false), RUNNING_MS);
  }

  const shownOf = (facts) =>
    facts && JSON.stringify([facts.versions, facts.open_sha256, facts.limits, facts.recipe]);

  function drawHead() {
    if (!told) return;
    const isActive = told.job === active();
    const released = told.versions.find((version) => version.state === "released");
    const waits = isActive && released && told.open_sha256 && released.sha256 !== told.open_sha256;
    state.replaceChildren(
      h(
        "span",
        { class: "chip", data: { on: isActive } },
        t(isActive ? "job.active" : "job.not_active"),
      ),
      h("code", {}, told.bundle),
    );
    change.hidden = !isEngineer() || (isActive && !waits);
    change.textContent = t(isActive ? "job.change_over" : "job.select");
    change.className = waits ? "primary" : "";
    changeover.hidden = !waits;
    changeover.textContent = waits ? t("job.changeover") : "";
    task.hidden = told.running === null;
    if (told.running) {
      const { task: name, progress, error } = told.running;
      const bar = h("progress", { "aria-label": t("job.progress") });
      if (typeof progress === "number") bar.value = progress;
      task.dataset.kind = error === null ? "running" : "error";
      task.replaceChildren(
        ...(error === null
          ? [
              t("job.running", { task: actionText(name) }),
              bar,
              typeof progress === "number" ? percent(progress, 2) : "",
            ]
          : [t("job.failed", { task: actionText(name) }), ` ${error}`]),
      );
    }
  }

  function drawBody() {
    panels.forEach((panel) => panel.close?.());
    const reload = () => load(true);
    panels = [limitsPanel(told, reload), versionsPanel(told, reload), regionsPanel(told, reload)];
    body.replaceChildren(...panels.map((panel) => panel.element), historyPanel(told.history));
  }

  async function changeOver() {
    const text = t("job.select_text", { job: chosen() });
    if (!(await confirmed(change.textContent, text, change.textContent))) return;
    const done = await attempt(() => post("/api/job", { job: chosen() }), change);
    if (done) note(t("job.selected", { job: chosen() }));
    load(false);
  }

  load(true);
  const stop = listen((what) => {
    if (what !== "status") return;
    const held = stream.status?.job;
    // The station changes over some time after it is told to.
    if (told && held?.id === told.job && held.sha256 !== told.open_sha256) load(false);
    else drawHead();
  });
  job.addEventListener("change", () =>
    history.replaceState(null, "", `#/job${query({ job: job.value })}`),
  );
  return () => {
    closed = true;
    clearTimeout(timer);
    stop();
    panels.forEach((panel) => panel.close?.());
  };
}

const historyPanel = (entries) =>
  h(
    "section",
    { class: "panel history" },
    h("h2", {}, t("job.history")),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "plain wide" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["time", "user", "action", "after"].map((name) =>
              h("th", { scope: "col" }, t(`column.${name}`)),
            ),
          ),
        ),
        h(
          "tbody",
          {},
          entries
            .toReversed()
            .slice(0, 50)
            .map((entry) =>
              h(
                "tr",
                {},
                h("td", { class: "nowrap" }, moment(entry.time)),
                h("td", {}, entry.user),
                h("td", {}, actionText(entry.action)),
                h("td", {}, values(entry.after)),
              ),
            ),
        ),
      ),
    ),
  );
