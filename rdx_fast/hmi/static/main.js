// The shell: texts, session, stream, the menu, and the view that the address names.

import { isEngineer, isUser, onSession, onUnauthorised, refreshSession, session } from "./api.js";
import * as audit from "./audit.js";
import { h, say, select } from "./dom.js";
import * as job from "./job.js";
import { addKeys, showKeys } from "./keys.js";
import * as label from "./label.js";
import { isJudged } from "./labelling.js";
import * as live from "./live.js";
import { changePassword, logOut, signIn } from "./login.js";
import { complain } from "./notes.js";
import * as part from "./part.js";
import * as parts from "./parts.js";
import * as quality from "./quality.js";
import { isUnreadable, listen, newest, start, stream } from "./stream.js";
import { choose, count, language, languages, setTexts, t } from "./texts.js";
import { countWaiting, onWaiting } from "./waiting.js";

const VIEWS = { live, parts, part, label, quality, job, audit };
const IN_NAVIGATION = ["live", "parts", "label", "quality", "job", "audit"];

const COUNT_MS = 3000; // at most so often

const at = (id) => document.getElementById(id);
let close = () => {};
let shownUser = null;
// How many parts wait for a label. It changes by itself: the links stay, and with them the focus.
const badge = h("span", { class: "waiting", hidden: true });
let waiting = null;

/** "#/parts?result=NG" as its view, the rest of the path and the query. */
function address() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  return { name: name in VIEWS ? name : "live", rest, query: new URLSearchParams(query ?? "") };
}

function openView() {
  at("menu").hidePopover();
  const { name, rest, query } = address();
  close();
  const main = at("main");
  main.className = `view-${name}`;
  main.replaceChildren();
  document.title = `${t(`${name}.title`)} – ${session.station ?? "rdx_fast"}`;
  drawNavigation(name);
  close = isUser() || session.anonymous ? VIEWS[name].open(main, { rest, query }) : locked(main);
}

function locked(main) {
  const button = h("button", { class: "primary", onclick: signIn }, t("login.title"));
  main.append(h("div", { class: "locked" }, h("p", {}, t("login.needed")), button));
  signIn();
  return () => {};
}

const views = () => IN_NAVIGATION.filter((name) => name !== "audit" || isEngineer());

function drawNavigation(current) {
  drawWaiting();
  const links = views().map((name, i) => {
    const properties = { href: `#/${name}`, title: `Shift+${i + 1}` };
    if (name === current || (name === "parts" && current === "part"))
      properties["aria-current"] = "page";
    return h("a", properties, t(`${name}.title`), name === "label" ? badge : null);
  });
  at("nav").replaceChildren(...links);
}

function drawWaiting() {
  badge.hidden = !waiting;
  say(badge, waiting ? count(waiting) : "");
}

function drawShell() {
  for (const element of document.querySelectorAll("[data-text]"))
    say(element, t(element.dataset.text));
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", t(element.dataset.label));
  }
  say(at("station"), session.station ?? "rdx_fast");
  say(
    at("menu-button"),
    isUser() ? `${session.user} · ${t(`role.${session.role}`)}` : t("shell.menu"),
  );
  at("menu").replaceChildren(...menu());
  drawLink();
}

function menu() {
  const themes = ["auto", "light", "dark"].map((name) => [name, t(`theme.${name}`)]);
  const setTheme = (event) => {
    localStorage.setItem("theme", event.target.value);
    document.documentElement.dataset.theme = event.target.value;
  };
  const setLanguage = (event) => {
    localStorage.setItem("language", event.target.value);
    choose(event.target.value);
    drawShell();
    openView();
  };
  const entry = (text, action) =>
    h("button", { type: "button", onclick: () => (at("menu").hidePopover(), action()) }, text);
  return [
    h(
      "label",
      { class: "field" },
      h("span", {}, t("shell.language")),
      select(languages(), language(), { onchange: setLanguage }),
    ),
    h(
      "label",
      { class: "field" },
      h("span", {}, t("shell.theme")),
      select(themes, document.documentElement.dataset.theme, { onchange: setTheme }),
    ),
    entry(t("keys.title"), showKeys),
    ...(isUser()
      ? [entry(t("password.title"), changePassword), entry(t("login.leave"), logOut)]
      : [entry(t("login.title"), signIn)]),
  ];
}

/** Whether what is shown is current. */
function drawLink() {
  const away = stream.begun && stream.open && stream.status && !stream.status.connected;
  const isLocked = !isUser() && !session.anonymous;
  const state = isLocked
    ? "locked"
    : !stream.begun
      ? "opening"
      : !stream.open
        ? "broken"
        : away
          ? "away"
          : isUnreadable()
            ? "records"
            : "open";
  at("link").dataset.state = state;
  say(at("link"), t(`link.${state}`));
  const broken = at("broken");
  broken.hidden = !(stream.begun && ["broken", "locked"].includes(state));
  if (!broken.hidden) say(broken, t(`link.${state}_long`));
}

// New parts may wait for a label. They are counted together: a line may be fast.
let counted = 0;
let counting = 0;
function countSoon() {
  const last = stream.recent.find(isJudged)?.inspection_id ?? 0;
  if (last === counted || counting) return;
  counting = setTimeout(() => {
    counting = 0;
    counted = stream.recent.find(isJudged)?.inspection_id ?? 0;
    countWaiting().catch(() => {});
  }, COUNT_MS);
}

// Spoken for those who do not see the page: what is not OK, and not more often than every 5 s.
let toldAt = 0;
let alarmed = "";
function speak(what) {
  const part = newest();
  if (what === "parts" && part && part.result !== "OK" && Date.now() - toldAt > 5000) {
    toldAt = Date.now();
    say(at("told"), t("live.spoken", { result: part.result, part: part.part_id }));
  }
  if (what !== "status") return;
  const codes = (stream.status?.alarms ?? []).map((alarm) => alarm.code);
  if (codes.join() === alarmed) return;
  alarmed = codes.join();
  say(at("alarmed"), codes.map((code) => t(`alarm.${code}.cause`)).join(" "));
}

async function main() {
  onUnauthorised(signIn);
  const [texts] = await Promise.all([fetch("/api/texts").then((r) => r.json()), refreshSession()]);
  setTexts(texts, session.language);
  onSession(() => {
    drawShell();
    if (session.user === null && shownUser !== null) {
      // The session has ended. The view stays: what was entered is kept until the user comes back.
      if (!session.anonymous) signIn();
      return;
    }
    start();
    if (session.user === shownUser) return;
    shownUser = session.user;
    openView();
    countWaiting().catch(complain);
  });
  shownUser = session.user;
  onWaiting((n) => {
    waiting = n;
    drawWaiting();
  });
  listen((what) => {
    if (what === "link" || what === "status") drawLink();
    speak(what);
  });
  addKeys({
    "?": ["keys.help", showKeys],
    ...Object.fromEntries(
      IN_NAVIGATION.map((name, i) => [
        `Shift+${i + 1}`,
        ["keys.view", () => (location.hash = `#/${name}`), { view: t(`${name}.title`) }],
      ]),
    ),
  });
  drawShell();
  openView();
  start();
  addEventListener("hashchange", () => {
    openView();
    at("main").focus({ preventScroll: true });
    scrollTo(0, 0);
  });
  at("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address names the view
    at("main").focus();
  });
  countWaiting().catch(complain);
  // A broken link is shown by the stream.
  setInterval(() => countWaiting().catch(() => {}), 60000);
  listen((what) => what === "parts" && countSoon());
}

main().catch(complain);
