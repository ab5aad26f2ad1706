// Everything on the page that is text, tables and bars.

import { KINDS, age, capital, cause, clockTime, count, fixed, ms, significant, size } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const EVENTS_SHOWN = 60;
const OVERRUN_SHOWN_MS = 10000;
const $ = (id) => document.getElementById(id);

function element(tag, text = "", name = "") {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (name) made.className = name;
  return made;
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Term and value pairs; nodes are kept so that a screen reader's place is not lost ten times a second.
function facts(node, pairs) {
  while (node.children.length > pairs.length) node.lastChild.remove();
  pairs.forEach(([term, value, bad], i) => {
    let row = node.children[i];
    if (!row) {
      row = element("div");
      row.append(element("dt"), element("dd", "", "number"));
      node.append(row);
    }
    write(row.children[0], term);
    write(row.children[1], value);
    row.classList.toggle("bad", Boolean(bad));
  });
}

function cells(body, rows, width) {
  while (body.children.length > rows) body.lastChild.remove();
  while (body.children.length < rows) {
    const row = element("tr");
    const head = element("th");
    head.scope = "row";
    row.append(head);
    for (let i = 1; i < width; i += 1) row.append(element("td", "", "number"));
    body.append(row);
  }
  return [...body.children];
}

export class Panels {
  constructor() {
    this.axes = [];
    this.goal = -1;
    this.lastEvent = 0;
    this.overruns = Infinity;
    this.overrunAt = -Infinity;
  }

  show(message) {
    this.surprise(message.surprise);
    this.timing(message);
    write($("m-episodes"), count(message.memory.episodes));
    write($("m-concepts"), count(message.memory.concepts));
    write($("m-bytes"), size(message.memory.bytes));
    this.plan(message);
    this.motors(message.motors, message.command);
    this.build(message.engine_build);
  }

  // Engines that are built in the background.
  build(state) {
    $("engine-build").hidden = !state;
    if (!state) return;
    const counted = state.share !== null;
    write($("build-text"), `${capital(state.text)}${counted ? ` ${Math.round(100 * state.share)} %` : ""}`);
    $("build-share").hidden = !counted;
    if (counted) $("build-share").value = state.share;
    const box = $("build-outcomes");
    while (box.children.length > state.outcomes.length) box.lastChild.remove();
    state.outcomes.forEach((outcome, i) => write(box.children[i] || box.appendChild(element("li")), capital(outcome)));
  }

  surprise(seen) {
    write($("v-surprise"), seen ? fixed(seen.surprise, 2) : "–");
    write($("v-threshold"), seen ? fixed(seen.threshold, 2) : "–");
    write($("v-error"), seen ? significant(seen.error) : "–");
    write($("v-unfamiliar"), seen ? significant(seen.unfamiliarity) : "–");
    $("v-surprise").title = seen ? `p-value ${significant(seen.p_value)}` : "";
    $("v-surprise").classList.toggle("over", Boolean(seen) && seen.surprise > seen.threshold);
  }

  timing(message) {
    const period = message.period_ms || (message.rate_hz ? 1000 / message.rate_hz : null);
    write($("timing-facts"), period ? `bar p50, mark p99, of ${ms(period)} ms` : "");
    const spreads = message.tick ? [...message.stages, { ...message.tick, name: "whole tick" }] : message.stages;
    const rows = cells($("timing-rows"), spreads.length, 5);
    spreads.forEach((spread, i) => {
      const row = rows[i];
      row.classList.toggle("total", i === spreads.length - 1);
      write(row.children[0], spread.name.replaceAll("_", " "));
      write(row.children[1], ms(spread.p50));
      write(row.children[2], ms(spread.p99));
      write(row.children[3], ms(spread.max));
      let bar = row.children[4].firstChild;
      if (!bar) {
        row.children[4].className = "bar-cell";
        bar = element("div", "", "bar");
        bar.append(element("i"), element("b"));
        row.children[4].append(bar);
      }
      const share = (value) => `${Math.min(100, period ? (100 * value) / period : 0).toFixed(1)}%`;
      bar.children[0].style.width = share(spread.p50);
      bar.children[1].style.left = share(spread.p99);
      row.classList.toggle("bad", Boolean(period) && spread.p99 > period);
    });
    const { latency, engine } = message;
    const pairs = [];
    if (latency) pairs.push(["Camera to motors", `${ms(latency.p50)} ms, p99 ${ms(latency.p99)}`]);
    if (engine) pairs.push(["In inference", `${ms(engine.p50)} ms, p99 ${ms(engine.p99)}`]);
    if (message.overruns > this.overruns) this.overrunAt = performance.now();
    this.overruns = message.overruns;
    pairs.push(["Overruns", count(message.overruns), performance.now() - this.overrunAt < OVERRUN_SHOWN_MS]);
    facts($("timing-extra"), pairs);
  }

  plan({ plan, goal, command }) {
    const picture = goal ? goal.picture : 0;
    if (picture !== this.goal) {
      this.goal = picture;
      $("goal-picture").hidden = !picture;
      if (picture) $("goal-picture").src = `/api/goal/${picture}.jpg`;
      $("goal-none").hidden = Boolean(picture);
    }
    write($("goal-none"), goal ? "No picture" : "No goal");
    write($("goal-name"), goal ? goal.name : "");
    write($("plan-facts"), plan ? `${count(plan.candidates)} candidates, ${plan.iterations} rounds` : "");
    const actions = plan ? plan.actions : [];
    const executed = command ? command.action : null;
    const width = actions.length ? actions[0].length : executed ? executed.length : 0;
    const box = $("plan-axes");
    while (box.children.length > width) box.lastChild.remove();
    while (box.children.length < width) box.append(this.axisRow(box.children.length));
    for (let a = 0; a < width; a += 1) {
      this.bars(box.children[a], a, actions.map((step) => step[a]), executed ? executed[a] : null, command);
    }
    if (!width) write(box, "No plan in this tick");
    facts($("plan-costs"), plan ? [
      ["Cost now", significant(plan.cost_now)],
      ["Predicted", significant(plan.cost)],
      ["Reached below", goal ? significant(goal.reached_cost) : "–"],
      ["Goal", plan.reached ? "reached" : "not reached yet"],
    ] : []);
  }

  axisRow(index) {
    const box = $("plan-axes");
    if (index === 0) box.textContent = "";
    const row = element("div", "", "axis");
    const drawing = document.createElementNS(SVG, "svg");
    drawing.setAttribute("preserveAspectRatio", "none");
    drawing.setAttribute("role", "img");
    row.append(element("span", "", "axis-name"), drawing, element("span", "", "axis-value number"));
    return row;
  }

  // One bar per planned step, up for plus; the executed action is the framed bar on the left.
  bars(row, axis, steps, executed, command) {
    const name = this.axes[axis] || `axis ${axis + 1}`;
    const limited = Boolean(command && command.limited.includes(name));
    write(row.children[0], name);
    write(row.children[2], executed === null ? "not sent" : `${fixed(executed, 2)}${limited ? " limited" : ""}`);
    const drawing = row.children[1];
    const slots = steps.length + 2;
    drawing.setAttribute("viewBox", `0 -1.1 ${slots} 2.2`);
    drawing.setAttribute("aria-label", `${name}: executed ${executed === null ? "nothing" : fixed(executed, 2)}, planned ${steps.map((v) => fixed(v, 1)).join(", ")}`);
    const wanted = steps.length + 2;
    while (drawing.children.length > wanted) drawing.lastChild.remove();
    while (drawing.children.length < wanted) drawing.append(document.createElementNS(SVG, "rect"));
    const place = (node, x, value, width, kind) => {
      const height = Math.max(0.04, Math.min(1, Math.abs(value)));
      node.setAttribute("x", x);
      node.setAttribute("width", width);
      node.setAttribute("y", value > 0 ? -height : 0);
      node.setAttribute("height", height);
      node.setAttribute("class", kind);
    };
    const [zero, sent, ...planned] = drawing.children;
    zero.setAttribute("x", 0);
    zero.setAttribute("width", slots);
    zero.setAttribute("y", -0.015);
    zero.setAttribute("height", 0.03);
    zero.setAttribute("class", "zero");
    place(sent, 0.1, executed || 0, 1, executed === null ? "none" : "sent");
    planned.forEach((node, i) => place(node, i + 1.75, steps[i], 0.7, "step"));
  }

  motors(motors, command) {
    if (!motors) {
      write($("motor-state"), "No telemetry");
      $("motor-state").classList.add("bad");
      write($("firmware"), "");
      cells($("motor-rows"), 0, 4);
      facts($("link-counts"), []);
      return;
    }
    write($("firmware"), motors.firmware);
    const aged = motors.age_ms === null ? "never heard" : `heard ${age(motors.age_ms)} ago`;
    const faults = motors.faults.length ? ` · ${motors.faults.join(", ")}` : "";
    write($("motor-state"), `Firmware ${motors.state.replaceAll("_", " ")} · ${aged}${faults}`);
    $("motor-state").classList.toggle("bad", motors.faults.length > 0 || motors.age_ms === null || motors.age_ms > 500);
    const rows = cells($("motor-rows"), motors.velocity.length, 4);
    rows.forEach((row, i) => {
      write(row.children[0], this.axes[i] || `axis ${i + 1}`);
      write(row.children[1], fixed(motors.position[i], 2));
      write(row.children[2], fixed(motors.velocity[i], 2));
      write(row.children[3], fixed(motors.current[i], 2));
    });
    const targets = command ? command.targets.map((value) => fixed(value, 1)).join(" / ") : "none";
    facts($("link-counts"), [
      ["Commanded rad/s", targets],
      ["Sent", count(motors.sent)],
      ["Acked", count(motors.acked)],
      ["Received", count(motors.received)],
      ["CRC errors", count(motors.crc_errors), motors.crc_errors > 0],
      ["Dropped", count(motors.dropped), motors.dropped > 0],
    ]);
  }

  forget() {
    this.lastEvent = 0;
    this.goal = -1;
    $("events").replaceChildren();
    $("no-events").hidden = false;
  }

  add(events) {
    const box = $("events");
    for (const event of events) {
      if (event.number <= this.lastEvent) continue;
      this.lastEvent = event.number;
      box.prepend(this.eventRow(event));
    }
    while (box.children.length > EVENTS_SHOWN) box.lastChild.remove();
    $("no-events").hidden = box.children.length > 0;
    write($("events-facts"), this.lastEvent ? `${count(this.lastEvent)} since start` : "");
  }

  eventRow(event) {
    const kind = event.kind in KINDS ? event.kind : "state";
    const row = element("li", "", "event");
    row.dataset.kind = kind;
    const frame = element("div", "", "thumb");
    if (event.thumbnail) {
      const picture = element("img");
      picture.src = `/api/events/${event.number}/thumbnail`;
      picture.alt = "";
      picture.loading = "lazy";
      picture.width = 72;
      picture.height = 54;
      picture.addEventListener("error", () => picture.remove());
      frame.append(picture);
    }
    const text = element("div");
    const first = element("p", "", "what");
    const icon = document.createElementNS(SVG, "svg");
    icon.setAttribute("class", "icon");
    icon.setAttribute("aria-hidden", "true");
    const use = document.createElementNS(SVG, "use");
    use.setAttribute("href", `#i-${kind}`);
    icon.append(use);
    const when = element("time", clockTime(new Date(event.wall_s * 1000)), "number");
    when.dateTime = new Date(event.wall_s * 1000).toISOString();
    first.append(icon, element("strong", KINDS[event.kind] || capital(event.kind)), when);
    text.append(first, element("p", event.detail || capital(cause(event.cause)), "detail"));
    row.append(frame, text);
    return row;
  }
}
