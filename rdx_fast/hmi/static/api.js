// Requests to the server. A session that has expired is opened again in the middle of one.

import { has, t } from "./texts.js";

/** What the server last said of the session; see `GET /api/session`. */
export const session = { user: null, role: null, csrf: null, anonymous: false, jobs: [] };

const listeners = new Set();
let signIn = async () => false;
let skew = 0; // ms that the server's clock is ahead of the browser's

export class ApiError extends Error {
  /** `detail` is the server's text, in English; `facts` are values of the text for the code. */
  constructor(status, code, detail, facts = {}) {
    super(has(`error.${code}`) ? t(`error.${code}`, { detail, ...facts }) : detail);
    this.status = status;
    this.code = code;
  }
}

export const onSession = (listener) => listeners.add(listener);
export const onUnauthorised = (dialog) => (signIn = dialog);
export const serverNow = () => Date.now() + skew;
export const isEngineer = () => session.role === "engineer";
export const isUser = () => session.user !== null;

export function setSession(told) {
  Object.assign(session, told);
  for (const listener of listeners) listener(session);
}

/** The query of a dictionary; empty values are left out, lists repeated. */
export function query(values) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const entry of Array.isArray(value) ? value : [value]) {
      if (entry !== null && entry !== undefined && entry !== "") found.append(name, entry);
    }
  }
  const text = found.toString();
  return text ? `?${text}` : "";
}

async function answered(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", error.message);
  }
  const date = Date.parse(response.headers.get("date") ?? "");
  // The header has whole seconds: ages below a second do not matter.
  if (!Number.isNaN(date)) skew = Math.abs(date - Date.now()) < 2000 ? 0 : date - Date.now();
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  const detail = told.error ?? `HTTP ${response.status}`;
  const error = new ApiError(response.status, told.code, detail, told.facts);
  error.retryAfter = Number(response.headers.get("retry-after")) || null;
  throw error;
}

async function send(path, options) {
  try {
    return await answered(path, options());
  } catch (error) {
    // Another page of this browser may have logged in anew.
    const { user } = session;
    if (error.code === "csrf") await refreshSession();
    else if (error.status !== 401 || !(await signIn())) throw error;
    // What one user entered is not sent as another's.
    if (user !== null && session.user !== user) throw error;
    return answered(path, options());
  }
}

/** JSON of a GET. */
export async function get(path, values = {}, signal = undefined) {
  return (await send(path + query(values), () => ({ signal }))).json();
}

/** The response of a GET that is not JSON, such as a picture. Never asks for a login. */
export const getRaw = (path, signal) => answered(path, { signal });

/** JSON of a POST, with the session's token. */
export async function post(path, body = {}) {
  const options = () => ({
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": session.csrf ?? "" },
    body: JSON.stringify(body),
  });
  return (await send(path, options)).json();
}

/** Ask who is logged in. */
export async function refreshSession() {
  setSession(await (await answered("/api/session", {})).json());
}

/** Log in. Raises ApiError 401 for a wrong password, 429 where too many were wrong. */
export async function login(user, password) {
  const response = await answered("/api/login", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": session.csrf ?? "" },
    body: JSON.stringify({ user, password }),
  });
  setSession(await response.json());
}
