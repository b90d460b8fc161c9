// Versions of a job's bundle, how a candidate compares with the released one, and its release.

import { isEngineer, post } from "./api.js";
import { actionText } from "./audit.js";
import { comparisonTable } from "./comparison.js";
import { h } from "./dom.js";
import { attempt, confirmed, note } from "./notes.js";
import { moment, t } from "./texts.js";

export function versionsPanel(job, reload) {
  const previous = job.versions.find((version) => version.state === "previous");
  const release = (version, title) => async (event) => {
    const text = t(version.state === "previous" ? "versions.confirm_back" : "versions.confirm", {
      name: version.name,
      sha256: version.sha256.slice(0, 12),
    });
    const button = event.currentTarget;
    const warned = version.lacks.length ? `${text} ${lacking(version)}` : text;
    if (!(await confirmed(title, warned, title))) return;
    const body = { sha256: version.sha256, base: job.sha256 };
    if (await attempt(() => post(`/api/jobs/${job.job}/release`, body), button)) {
      note(t("job.released"));
      reload();
    }
  };
  const discard = (version) => async (event) => {
    const button = event.currentTarget;
    const text = t("versions.confirm_discard", { sha256: version.sha256.slice(0, 12) });
    if (!(await confirmed(t("versions.discard"), text, t("versions.discard")))) return;
    const body = { sha256: version.sha256 };
    if (await attempt(() => post(`/api/jobs/${job.job}/discard`, body), button)) reload();
  };
  const entry = (version) => {
    const title = t(version.state === "previous" ? "versions.back" : "versions.release");
    const button =
      isEngineer() && version.state !== "released" && version !== previous
        ? h(
            "button",
            {
              type: "button",
              class: version.state === "candidate" ? "primary" : "",
              onclick: release(version, title),
            },
            title,
          )
        : null;
    return h(
      "li",
      { class: "version", data: { state: version.state } },
      h(
        "div",
        { class: "version-head" },
        h(
          "span",
          { class: "chip", data: { state: version.state } },
          t(`versions.${version.state}`),
        ),
        h("code", { title: version.sha256 }, version.sha256.slice(0, 12)),
        version.sha256 === job.open_sha256
          ? h("span", { class: "chip", data: { on: true } }, t("versions.open"))
          : null,
        h(
          "span",
          {},
          t("versions.by", {
            action: actionText(version.action),
            user: version.user || "–",
            time: moment(version.changed),
          }),
        ),
        h("span", { class: "spacer" }),
        isEngineer() && version.state === "candidate"
          ? h("button", { type: "button", onclick: discard(version) }, t("versions.discard"))
          : null,
        button,
      ),
      version.lacks.length ? h("p", { class: "hint" }, lacking(version)) : null,
      comparisonTable(version, version.state !== "candidate"),
    );
  };
  const element = h(
    "section",
    { class: "panel versions" },
    h("h2", {}, t("versions.title")),
    isEngineer() && previous
      ? h(
          "p",
          { class: "back" },
          h(
            "button",
            { type: "button", onclick: release(previous, t("versions.back")) },
            t("versions.back_to", {
              sha256: previous.sha256.slice(0, 12),
              time: moment(previous.changed),
            }),
          ),
        )
      : null,
    h("ol", { class: "version-list" }, job.versions.map(entry)),
  );
  return { element };
}

/** The changes of the released bundle that a release of a version undoes. */
function lacking(version) {
  const changes = version.lacks.map(({ action, user, time }) =>
    t("versions.by", { action: actionText(action), user: user || "–", time: moment(time) }),
  );
  return t("versions.lacks", { changes: changes.join("; ") });
}
