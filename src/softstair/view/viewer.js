// Shared by all pages: text and numbers, and two pictures with a divider.
"use strict";

const $ = id => document.getElementById(id);

// Text goes into the page as text nodes alone, so that no name can be markup.
function node(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "text", "clipPath", "rect", "circle"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined));
  return made;
}

const fixed = (value, digits) =>
  value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−");
const whole = value => Math.round(value).toLocaleString("en").replaceAll(",", "\u202f");
const decibels = value => value === null ? "∞" : fixed(value, 2);

// Radio buttons as a row of keys. choices: pairs of value and text; the first is chosen.
function keys(legend, choices, choose) {
  const name = "keys-" + legend.replaceAll(" ", "-");
  const inputs = choices.map(([value], at) =>
    node("input", {type: "radio", name, checked: at === 0, onchange: () => choose(value)}));
  const made = node("fieldset", {class: "choice"}, node("legend", {}, legend),
    choices.map(([, text], at) => node("label", {}, inputs[at], text)));
  made.mark = value => inputs.forEach((input, at) => { input.checked = choices[at][0] === value; });
  return made;
}

// Two pictures of one size over each other: a divider between them, or their difference; zoom and pan.
// wheel: zooms without a modifier, for pages that do not scroll.
function makeStage({wheel = false} = {}) {
  const LARGEST = 16;
  const panes = [node("div", {class: "pane"}), node("div", {class: "pane"})];
  const divider = node("div", {class: "divider", role: "slider", tabindex: 0,
    "aria-label": "Divider between the sides", "aria-valuemin": 0, "aria-valuemax": 100,
    "aria-orientation": "horizontal"},
  node("svg", {viewBox: "0 0 32 32", "aria-hidden": "true"}, node("path", {d: "M13 10L7 16L13 22M19 10L25 16L19 22"})));
  const element = node("div", {class: "stage", tabindex: 0, role: "group",
    "aria-label": "Pictures; plus, minus and 0 zoom, arrow keys move what is zoomed in"},
  node("div", {class: "panes"}, panes), divider);
  const zooms = keys("Zoom", [["fit", "fit"], [1, "1×"], [2, "2×"], [4, "4×"]], value => zoomTo(value));
  const differences = keys("Difference", [[0, "off"], [4, "×4"], [8, "×8"], [16, "×16"]], times => {
    element.classList.toggle("differing", times > 0);
    element.style.setProperty("--times", times);
    place();
  });
  const state = {width: 1, height: 1, zoom: "fit", x: 0, y: 0, at: 50, names: ["left", "right"], turn: [0, 0]};

  // A picture pixel at 1x is one pixel of the screen; "fit" never enlarges.
  function scale(zoom = state.zoom) {
    if (zoom !== "fit") return zoom / devicePixelRatio;
    return Math.min(1, element.clientWidth / state.width, element.clientHeight / state.height);
  }
  // What lies at (x, y) of the stage, by default in its middle, stays there.
  function zoomTo(zoom, x = element.clientWidth / 2, y = element.clientHeight / 2) {
    const before = scale();
    state.zoom = zoom;
    const factor = scale() / before;
    state.x = x - (x - state.x) * factor;
    state.y = y - (y - state.y) * factor;
    zooms.mark(zoom);
    place();
  }
  function zoomBy(factor, x, y) {
    const now = scale() * devicePixelRatio, smallest = scale("fit") * devicePixelRatio;
    const next = Math.min(LARGEST, now * factor);
    zoomTo(next <= smallest * 1.001 ? "fit" : next, x, y);
  }
  function place() {
    const size = scale(), box = element.getBoundingClientRect();
    const dots = (value, origin) => Math.round((origin + value) * devicePixelRatio) / devicePixelRatio - origin;
    const keep = (offset, room, length) =>
      length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, offset));
    state.x = keep(state.x, element.clientWidth, state.width * size);
    state.y = keep(state.y, element.clientHeight, state.height * size);
    const place = {left: dots(state.x, box.left), top: dots(state.y, box.top),
      width: state.width * size, height: state.height * size};
    for (const {firstChild: image} of panes) {
      if (image) for (const [name, value] of Object.entries(place)) image.style[name] = value + "px";
    }
    element.classList.toggle("exact", size * devicePixelRatio >= 1);
    element.classList.toggle("loose",
      state.width * size > element.clientWidth + .5 || state.height * size > element.clientHeight + .5);
    const whole = element.classList.contains("differing") || element.classList.contains("single");
    panes[0].style.clipPath = whole ? "" : `inset(0 ${100 - state.at}% 0 0)`;
    panes[1].style.clipPath = whole ? "" : `inset(0 0 0 ${state.at}%)`;
    divider.style.left = state.at + "%";
    divider.setAttribute("aria-valuenow", Math.round(state.at));
    divider.setAttribute("aria-valuetext", `${Math.round(state.at)} % ${state.names[0]}, the rest ${state.names[1]}`);
  }
  function divide(at) {
    state.at = Math.min(100, Math.max(0, at));
    place();
  }

  // Another picture: both sides are emptied.
  function start(width, height, {single = false} = {}) {
    state.turn = state.turn.map(turn => turn + 1);
    panes.forEach(pane => pane.replaceChildren());
    element.classList.toggle("single", single);
    Object.assign(state, {width, height});
    zoomTo("fit");
  }
  // The old picture stays until the new one can be drawn; of several, the latest is shown.
  async function show(side, url, name) {
    const turn = ++state.turn[side];
    state.names[side] = name;
    const image = node("img", {alt: name, draggable: "false"});
    image.src = url;
    await image.decode();
    if (turn !== state.turn[side]) return;
    panes[side].replaceChildren(image);
    place();
  }

  const pointers = new Map();
  element.addEventListener("pointerdown", event => {
    if (event.button) return;
    element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  element.addEventListener("pointermove", event => {
    if (!pointers.has(event.pointerId)) return;
    const [x, y] = pointers.get(event.pointerId);
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (other) {
      const span = (a, b) => Math.hypot(a - other[0], b - other[1]) || 1, box = element.getBoundingClientRect();
      zoomBy(span(event.clientX, event.clientY) / span(x, y),
        (event.clientX + other[0]) / 2 - box.left, (event.clientY + other[1]) / 2 - box.top);
    } else {
      state.x += event.clientX - x;
      state.y += event.clientY - y;
      place();
    }
  });
  for (const end of ["lostpointercapture", "pointercancel"]) {
    element.addEventListener(end, event => pointers.delete(event.pointerId));
  }
  divider.addEventListener("pointerdown", event => {
    if (event.button) return;
    event.stopPropagation();
    divider.setPointerCapture(event.pointerId);
    const box = element.getBoundingClientRect();
    const move = next => divide((next.clientX - box.left) / box.width * 100);
    divider.addEventListener("pointermove", move);
    divider.addEventListener("lostpointercapture", () => divider.removeEventListener("pointermove", move), {once: true});
  });
  divider.addEventListener("keydown", event => {
    const step = event.shiftKey ? 10 : 1;
    const to = {ArrowLeft: state.at - step, ArrowDown: state.at - step, ArrowRight: state.at + step,
      ArrowUp: state.at + step, PageDown: state.at - 10, PageUp: state.at + 10, Home: 0, End: 100}[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    divide(to);
  });
  element.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const zoom = {"+": 1.5, "=": 1.5, "-": 1 / 1.5}[event.key];
    const move = {ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40]}[event.key];
    if (zoom) zoomBy(zoom);
    else if (event.key === "0") zoomTo("fit");
    else if (move && element.classList.contains("loose")) {
      state.x += move[0];
      state.y += move[1];
      place();
    } else return;
    event.preventDefault();
  });
  element.addEventListener("wheel", event => {
    if (!wheel && !event.ctrlKey) return;
    event.preventDefault();
    const box = element.getBoundingClientRect(), lines = event.deltaMode === 1 ? 30 : 1;
    const speed = event.ctrlKey ? .01 : .002; // a pinch of a touchpad comes in small steps
    zoomBy(Math.exp(-event.deltaY * lines * speed), event.clientX - box.left, event.clientY - box.top);
  }, {passive: false});
  element.addEventListener("dblclick", event => {
    if (divider.contains(event.target)) return;
    const box = element.getBoundingClientRect();
    zoomTo(state.zoom === "fit" ? 2 : "fit", event.clientX - box.left, event.clientY - box.top);
  });
  new ResizeObserver(place).observe(element);
  return {element, zooms, differences, start, show};
}
