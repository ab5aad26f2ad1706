// What the person at the page may do. The emergency stop depends on nothing else here.

import { sentence, signIn } from "./login.js";

const STOP_RETRY_MS = 300;
const STOP_GIVE_UP_MS = 10000;
const STOP_REPLY_MS = 2000;
const DOUBLE_PRESS_MS = 800;
const $ = (id) => document.getElementById(id);

export class Controls {
  constructor() {
    this.session = null;
    this.stopping = false;
    this.toastTimer = 0;
    $("stop").addEventListener("click", () => this.stop("button on the dashboard"));
    $("arm").addEventListener("click", () => this.act("arm", "Armed."));
    $("disarm").addEventListener("click", () => this.act("disarm", "Disarmed."));
    $("clear").addEventListener("click", () => this.act("clear", "Stop cleared."));
    $("sign-in").addEventListener("click", () => (this.session.operator ? this.signOut() : this.openLogin()));
    $("login-cancel").addEventListener("click", () => this.closeLogin());
    $("login").addEventListener("submit", (event) => {
      event.preventDefault();
      this.login($("token").value);
    });
    let escapeAt = -Infinity;
    // Caught before any field sees it, so that Esc Esc stops wherever the focus is.
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.repeat) return;
      if (event.timeStamp - escapeAt < DOUBLE_PRESS_MS) {
        escapeAt = -Infinity;
        if (this.session && this.session.has_motors) this.stop("Escape pressed twice on the dashboard");
      } else {
        escapeAt = event.timeStamp;
        if (!$("login").hidden) this.closeLogin();
      }
    }, true);
  }

  // Who this browser is; returns the session, or null when the dashboard does not answer.
  async refresh() {
    try {
      const reply = await fetch("/api/session");
      if (reply.status === 401) location.replace("/login");
      if (!reply.ok) return null;
      this.session = await reply.json();
    } catch {
      return null;
    }
    const { has_motors: motors, operator } = this.session;
    $("stop").hidden = !motors;
    $("controls").hidden = !motors;
    $("disarm").hidden = !operator;
    $("sign-in").textContent = operator ? "Sign out" : "Sign in to operate";
    $("sign-in").classList.toggle("quiet", operator);
    document.body.classList.toggle("has-motors", motors);
    document.body.classList.toggle("operator", operator);
    for (const panel of document.querySelectorAll(".motors-only")) panel.hidden = !motors;
    this.show(this.state);
    return this.session;
  }

  // state: the robot's, or null while unknown
  show(state) {
    this.state = state;
    if (!this.session) return;
    const stopped = state === "stopped" || state === "fault";
    $("arm").hidden = !this.session.operator || stopped;
    $("clear").hidden = !this.session.operator || !stopped;
    $("arm").disabled = state !== "disarmed";
    $("disarm").disabled = state === "disarmed" || state === null || state === undefined;
    $("stop").classList.toggle("latched", state === "stopped");
  }

  async act(verb, done) {
    try {
      const reply = await fetch(`/api/${verb}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
      if (reply.status === 401) await this.refresh();
      const answer = await reply.json().catch(() => ({}));
      this.say(reply.ok ? done : sentence(answer.error || `The dashboard answered ${reply.status}`), !reply.ok);
    } catch {
      this.say(`The dashboard does not answer; ${verb} was not done.`, true);
    }
  }

  // Sent again until it is taken: stopping twice does no harm, not stopping does.
  async stop(reason) {
    if (this.stopping) return;
    this.stopping = true;
    $("stop").classList.add("sending");
    const began = performance.now();
    let error = "";
    while (performance.now() - began < STOP_GIVE_UP_MS) {
      const giveUp = new AbortController();
      const timer = setTimeout(() => giveUp.abort(), STOP_REPLY_MS);
      try {
        const reply = await fetch("/api/stop", {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ reason }),
          priority: "high",
          keepalive: true,
          signal: giveUp.signal,
        });
        error = reply.ok ? "" : (await reply.json().catch(() => ({}))).error || `answer ${reply.status}`;
      } catch {
        error = "the dashboard does not answer";
      } finally {
        clearTimeout(timer);
      }
      if (!error) break;
      this.say(`STOP NOT DELIVERED, trying again: ${sentence(error)} Use the switch on the machine.`, true, true);
      await new Promise((resolve) => setTimeout(resolve, STOP_RETRY_MS));
    }
    const took = Math.round(performance.now() - began);
    if (error) this.say(`STOP NOT DELIVERED: ${sentence(error)} Use the switch on the machine.`, true, true);
    else this.say(`Stop taken after ${took} ms.`, false);
    $("stop").classList.remove("sending");
    this.stopping = false;
  }

  async login(token) {
    const problem = await signIn(token);
    $("token").value = "";
    await this.refresh();
    $("login-error").textContent = problem;
    if (!problem) {
      if (!$("login").hidden) this.closeLogin();
      this.say("Signed in as operator.", false);
    } else if ($("login").hidden) this.say(problem, true);
  }

  async signOut() {
    await fetch("/logout", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" }).catch(() => null);
    await this.refresh();
  }

  openLogin() {
    $("login-error").textContent = "";
    $("login").hidden = false;
    $("token").focus();
  }

  closeLogin() {
    $("login").hidden = true;
    $("sign-in").focus();
  }

  say(text, bad, stay = false) {
    const toast = $("toast");
    clearTimeout(this.toastTimer);
    toast.hidden = false;
    toast.classList.toggle("bad", bad);
    if (toast.textContent !== text) toast.textContent = text;
    if (!stay) this.toastTimer = setTimeout(() => (toast.hidden = true), bad ? 8000 : 4000);
  }
}
