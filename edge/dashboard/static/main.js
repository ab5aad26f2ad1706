// Puts the page together: messages in, panels out, and the truth about how live they are.

import { Charts } from "./charts.js";
import { Connection } from "./connection.js";
import { Controls } from "./controls.js";
import { tokenFromAddress } from "./login.js";
import { Panels } from "./panels.js";
import { PictureView } from "./picture.js";
import { age, capital, clockTime, headline } from "./words.js";

const $ = (id) => document.getElementById(id);
const controls = new Controls();
const panels = new Panels();
const charts = new Charts();
const picture = new PictureView();
let heardAt = null;
let spoken = "";

function notLive(text) {
  const since = heardAt ? ` Values are from ${clockTime(heardAt)}.` : "";
  const words = `${text}${since}`;
  document.body.classList.add("stale");
  $("lost").hidden = false;
  if ($("lost").textContent !== words) $("lost").textContent = words;
}

function live() {
  document.body.classList.remove("stale", "waiting");
  $("lost").hidden = true;
}

function setLink(kind, word) {
  $("link").dataset.link = kind;
  if ($("link").textContent !== word) $("link").textContent = word;
}

function showState(message) {
  const session = controls.session;
  if (!session) return;
  const { key, word, reason, alarmed } = headline(message, session.has_motors);
  const still = message.tick_age_ms > session.stale_ms;
  document.querySelector(".state").dataset.state = key;
  document.querySelector(".state").classList.toggle("alarmed", alarmed);
  $("state-icon").setAttribute("href", `#i-${key}`);
  if ($("state-word").textContent !== word) $("state-word").textContent = word;
  if ($("reason").textContent !== capital(reason)) $("reason").textContent = $("reason").title = capital(reason);
  document.title = `${word} · ${session.title}`;
  // Spoken when the state changes or an alarm begins or ends, not whenever a number in the reason does.
  if (spoken !== `${word} ${alarmed}`) {
    spoken = `${word} ${alarmed}`;
    $("announce").textContent = `${word}. ${capital(reason)}`;
  }
  $("rate").textContent = message.rate_hz && !still ? `${message.rate_hz.toFixed(1)} Hz` : "";
  controls.show(message.state);
  picture.show(message);
  panels.show(message);
  if (still) {
    setLink("still", "Loop stands still");
    notLive(`The loop has not ticked for ${age(message.tick_age_ms)}.`);
  } else {
    heardAt = new Date();
    setLink("live", "Live");
    live();
  }
}

function receive(message) {
  if (message.type === "state") showState(message);
  else if (message.type === "more") {
    if (message.at_s.length) charts.add(message);
    panels.add(message.events);
  } else if (message.type === "problem") notLive(message.text);
}

async function start() {
  const token = tokenFromAddress();
  if (token) await controls.login(token);
  let session = await controls.refresh();
  while (!session) {
    setLink("lost", "Not connected");
    await new Promise((resolve) => setTimeout(resolve, 1000));
    session = await controls.refresh();
  }
  $("title").textContent = session.title;
  panels.axes = session.axes;
  $("state-word").textContent = "Waiting";
  $("reason").textContent = "For the loop's first tick";
  new Connection({
    opened: () => {
      // The minute of history and all events come again, so that a reconnect shows no gap and no stranger's past.
      charts.clear();
      panels.forget();
      setLink("live", "Connected");
      $("lost").hidden = true;
      controls.refresh();
    },
    message: receive,
    picture: (blob) => picture.draw(blob),
    lost: (text) => {
      setLink("lost", "Connection lost");
      $("rate").textContent = "";
      notLive(text);
    },
    refused: () => controls.refresh(),
  });
}

start();
