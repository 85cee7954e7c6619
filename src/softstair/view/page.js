// The page: one picture at a time, two of its views on the stage, figures of all of them.
const ORIGINAL = "original", OWN = "softstair", FILE = "file";

// Where pictures come from: a server, or the file itself, which has them in it.
function still() {
  return {
    entries: [{number: 0, name: content.picture.name}],
    open: async entry => ({entry, picture: content.picture}),
    async view(entry, codec) {
      const found = content.views.find(view => view.codec === codec);
      if (found.problem) throw new Error(found.problem);
      return found;
    },
  };
}

const source = content.views ? still() : served();
const stage = makeStage({wheel: true});
const state = {entry: null, picture: null, position: content.position, sides: [ORIGINAL, OWN], views: new Map()};

// Figures in words

const quality = position => String(Math.round(1000 * position / content.last_position) / 10);
const label = codec => state.picture.choices.find(choice => choice.codec === codec).label;
const isFresh = view => view && (view.at === state.position || view.fixed);

// How a view was made.
function sentence({knob, encode_ms, decode_ms}) {
  const times = [["encoded", encode_ms], ["decoded", decode_ms]].filter(([, ms]) => ms !== null)
    .map(([what, ms]) => `${what} in ${whole(ms)}\u00a0ms`);
  return [knob, ...times].filter(Boolean).join(", ");
}

// Parts of the page

function head() {
  if (!source.upload) return $("which").replaceChildren(node("b", {}, state.entry.name));
  const file = node("input", {type: "file", accept: "image/*,.stair", "aria-label": "Open a photograph",
    onchange: () => { if (file.files[0]) drop(file.files[0]); file.value = ""; }});
  const select = node("select", {"aria-label": "Picture",
    onchange: () => open(source.entries.find(entry => entry.number === +select.value))},
  source.entries.map(entry => node("option", {value: entry.number, selected: entry.number === state.entry?.number}, entry.name)));
  $("which").replaceChildren(...source.entries.length ? [select] : [], node("label", {class: "open"}, "Open …", file));
}

function sides() {
  const parts = [0, 1].map(side => {
    const select = node("select", {"aria-label": side ? "Right side" : "Left side",
      onchange: () => { put(side, select.value); }},
    state.picture.choices.map(choice => node("option", {value: choice.codec, selected: choice.codec === state.sides[side]}, choice.label)));
    return node("div", {class: "side", id: `side-${side}`}, select, node("b"), node("p", {class: "quiet"}));
  });
  $("sides").replaceChildren(...parts);
}

function panel() {
  const {picture} = state, parts = [];
  if (picture.choices.some(choice => choice.codec === OWN)) parts.push(rate(), table());
  const facts = [["Size", `${picture.width} × ${picture.height}`], ...picture.facts];
  parts.push(node("dl", {class: "facts"}, facts.map(([name, value]) => [node("dt", {}, name), node("dd", {}, value)])));
  $("panel").replaceChildren(...parts);
}

function rate() {
  const slider = node("input", {type: "range", id: "rate", min: 0, max: content.last_position, value: state.position,
    oninput: () => { state.position = +slider.value; describeRate(); refresh(); }});
  return node("div", {class: "rate"},
    node("div", {class: "ends"}, node("label", {for: "rate"}, "Quality"), node("output", {id: "quality", for: "rate"})),
    source.upload ? slider : null,
    node("dl", {class: "large", id: "own"}),
    node("p", {class: "quiet", id: "took"}),
    node("code", {id: "line"}));
}

function describeRate() {
  if (!$("quality")) return;
  $("quality").textContent = `${quality(state.position)}`;
  $("rate")?.setAttribute("aria-valuetext", `quality ${quality(state.position)}, rate position ${state.position}`);
  const name = /^[\w.-]+$/.test(state.picture.name) ? state.picture.name : `'${state.picture.name.replaceAll("'", "'\\''")}'`;
  $("line").textContent = `softstair encode ${name} -q ${quality(state.position)}`;
}

function table() {
  const rows = state.picture.choices.filter(choice => choice.codec !== ORIGINAL).map(choice => {
    const button = node("button", {type: "button", title: choice.settings || false, onclick: () => put(1, choice.codec)}, choice.label);
    return node("tr", {"data-codec": choice.codec}, node("th", {scope: "row"}, button), node("td"), node("td"), node("td"));
  });
  return node("div", {class: "table"}, node("table", {},
    node("caption", {}, "At the same size"),
    node("thead", {}, node("tr", {}, ["codec", "bytes", "bpp", "PSNR, dB"].map(text => node("th", {scope: "col"}, text)))),
    node("tbody", {}, rows)),
  node("p", {class: "quiet"}, "The largest file of each that is not larger than Softstair's; pixels alone, without metadata and " +
    "transparency. Choose a codec to see it on the right."));
}

// What is known is written; what is on its way stays, dimmed.
function write() {
  for (const side of [0, 1]) {
    const view = state.views.get(state.sides[side]), [, main, more] = $(`side-${side}`).children;
    $(`side-${side}`).classList.toggle("late", !isFresh(view));
    main.replaceChildren(...view?.figures ? caption(view.figures) : []);
    more.textContent = view?.figures ? sentence(view.figures) : view?.problem ?? "";
  }
  const own = state.views.get(OWN);
  if ($("own") && own?.figures) {
    const {file_bytes, bpp, psnr} = own.figures;
    const large = [["size", size(file_bytes)], ["bpp", fixed(bpp, 3)], ["PSNR", `${decibels(psnr)} dB`]];
    $("own").replaceChildren(...large.map(([name, value]) => node("div", {}, node("dt", {}, name), node("dd", {}, value))));
    $("own").classList.toggle("late", !isFresh(own));
    $("took").textContent = sentence(own.figures);
  }
  for (const row of document.querySelectorAll("tr[data-codec]")) {
    const view = state.views.get(row.dataset.codec), [, ...cells] = row.children;
    row.classList.toggle("late", !isFresh(view));
    row.classList.toggle("shown", state.sides.includes(row.dataset.codec));
    row.firstChild.firstChild.setAttribute("aria-pressed", state.sides[1] === row.dataset.codec);
    const figures = view?.figures;
    const texts = figures ? [whole(figures.file_bytes), fixed(figures.bpp, 3), decibels(figures.psnr)] : ["", "", view ? "–" : "…"];
    cells.forEach((cell, at) => { cell.textContent = texts[at]; });
    row.title = view?.problem ?? "";
  }
}

function caption({codec, file_bytes, bpp, psnr}) {
  const parts = [size(file_bytes)];
  if (codec !== ORIGINAL) parts.push(`${fixed(bpp, 3)} bpp`);
  if (codec !== ORIGINAL && state.picture.choices.length > 1) parts.push(`${decibels(psnr)} dB`);
  return parts.map(text => node("span", {}, text));
}

let fading = 0;

function say(text, {stays = false} = {}) {
  clearTimeout(fading);
  $("message").textContent = text;
  if (text && !stays) fading = setTimeout(() => say(""), 10000);
}

// Views on their way. One request is under way at a time; a moved slider lets Softstair's own
// finish, so that the picture follows, but not a search for a peer's size.

let working = false, search = null, opening = null;

function missing() {
  const codecs = state.picture.choices.map(choice => choice.codec);
  return [...new Set([...state.sides, OWN, ...codecs])]
    .find(codec => codecs.includes(codec) && !isFresh(state.views.get(codec)));
}

async function refresh() {
  search?.abort();
  write();
  if (working) return;
  working = true;
  for (;;) {
    await opening; // what is asked for now would supersede it
    const codec = missing(), {entry, position} = state;
    if (!codec) break;
    search = codec === OWN ? null : new AbortController();
    let view;
    try {
      view = await source.view(entry, codec, position, search?.signal);
    } catch (error) {
      if (error.name === "AbortError") continue;
      view = {problem: error.message};
    }
    search = null;
    if (entry !== state.entry) continue;
    keep(codec, {...view, at: position, fixed: view.figures ? view.figures.position === null : false});
  }
  working = false;
}

function keep(codec, view) {
  const before = state.views.get(codec);
  state.views.set(codec, view);
  const shown = [0, 1].filter(side => state.sides[side] === codec).map(side => draw(side));
  if (before?.url?.startsWith("blob:")) Promise.allSettled(shown).then(() => URL.revokeObjectURL(before.url));
  if (view.problem && state.sides.includes(codec)) say(view.problem);
  write();
}

function draw(side) {
  const codec = state.sides[side], view = state.views.get(codec);
  return view?.url ? stage.show(side, view.url, label(codec)).catch(() => {}) : Promise.resolve();
}

function put(side, codec) {
  state.sides[side] = codec;
  sides();
  say("");
  draw(side);
  refresh();
}

// Pictures

let turn = 0;

async function take(promise, text) {
  const mine = ++turn;
  opening = promise.catch(() => {});
  search?.abort();
  say(text, {stays: true});
  try {
    const {entry, picture} = await promise;
    if (mine === turn) start(entry, picture);
  } catch (error) {
    if (mine === turn) say(error.message);
  }
  if (mine === turn) head();
}

const open = entry => take(source.open(entry), `Opening ${entry.name} …`);
const drop = file => take(source.upload(file), `Opening ${file.name} …`);

function start(entry, picture) {
  const known = source.entries.find(one => one.number === entry.number);
  if (!known) source.entries.push(entry);
  for (const view of state.views.values()) if (view.url?.startsWith("blob:")) URL.revokeObjectURL(view.url);
  const codecs = picture.choices.map(choice => choice.codec), alone = codecs.length === 1;
  Object.assign(state, {entry: known ?? entry, picture, views: new Map(),
    sides: alone ? [FILE, FILE] : [ORIGINAL, codecs.includes(FILE) ? FILE : OWN]});
  document.title = `${picture.name} – Softstair`;
  document.body.classList.remove("empty");
  document.body.classList.toggle("alone", alone);
  stage.start(picture.width, picture.height, {single: alone});
  say("");
  sides();
  panel();
  describeRate();
  refresh();
}

function dropping() {
  let inside = 0; // elements that a drag is over, nested
  const holdsFiles = event => event.dataTransfer?.types.includes("Files");
  const over = count => { inside = count; $("drop").hidden = count <= 0; };
  addEventListener("dragenter", event => { if (holdsFiles(event)) { event.preventDefault(); over(inside + 1); } });
  addEventListener("dragleave", event => { if (holdsFiles(event)) over(inside - 1); });
  addEventListener("dragover", event => { if (holdsFiles(event)) event.preventDefault(); });
  addEventListener("drop", event => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    over(0);
    if (event.dataTransfer.files[0]) drop(event.dataTransfer.files[0]);
  });
}

$("stage").replaceWith(stage.element);
$("keys").append(stage.zooms, stage.differences);
if (source.upload) dropping();
if (source.entries.length) open(source.entries[0]);
else {
  document.body.classList.add("empty");
  head();
  say("Drop a photograph or a .stair file here, or open one.", {stays: true});
}
