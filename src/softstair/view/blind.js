// Two codecs at the same size, names hidden: a pick for every photograph at every rate, then the tally.
const ORIGINAL = "original", SAME = "no difference";
const source = served();
const stage = makeStage({wheel: true});
// pair: two choices of codecs. trials: what is shown in turn; each is given its pick, or why it was left out.
const state = {pair: [], trials: [], at: 0, next: null};

const say = text => { $("message").textContent = text; };

function shuffled(list) {
  const made = [...list];
  for (let at = made.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [made[at], made[other]] = [made[other], made[at]];
  }
  return made;
}

// Before

async function begin() {
  let picture;
  try {
    ({picture} = await source.open(source.entries[0]));
  } catch (error) {
    return say(error.message);
  }
  const choices = picture.choices.filter(({codec}) => codec !== ORIGINAL && codec !== "file");
  const preferred = choices.findIndex(({codec}) => codec.startsWith("avif"));
  const selects = ["One codec", "The other codec"].map((name, side) => {
    const chosen = side ? Math.max(1, preferred) : 0;
    return node("select", {"aria-label": name},
      choices.map(({codec, label}, at) => node("option", {value: codec, selected: at === chosen}, label)));
  });
  const start = node("button", {type: "button", onclick: () => {
    const pair = selects.map(select => choices.find(({codec}) => codec === select.value));
    if (pair[0] === pair[1]) return say("Choose two codecs that differ.");
    say("");
    state.pair = pair;
    return run();
  }}, "Start");
  const count = source.entries.length * content.positions.length;
  $("panel").replaceChildren(node("p", {}, `${count} comparisons, of files as large as each other: every ` +
    "photograph at three rates, in an order and on sides by chance. Names are shown at the end."),
  node("p", {class: "pair"}, selects[0], " against ", selects[1]), start);
}

// During

function run() {
  const trials = source.entries.flatMap(entry => content.positions.map(position => ({entry, position})));
  state.trials = shuffled(trials).map(trial => ({...trial, sides: shuffled(state.pair), pick: null}));
  state.at = 0;
  state.next = load(state.trials[0]);
  document.body.classList.remove("empty");
  return show();
}

// The original and both sides, one after the other: a page's newer request supersedes its older one.
async function load(trial) {
  const codecs = [ORIGINAL, ...trial.sides.map(({codec}) => codec)], views = [];
  const {picture} = await source.open(trial.entry);
  for (const codec of codecs) views.push(await source.view(trial.entry, codec, trial.position));
  return {picture, views};
}

async function show() {
  const trial = state.trials[state.at];
  $("sides").replaceChildren(node("b", {}, "A"), node("p", {class: "quiet"}, "Coding …"), node("b", {}, "B"));
  $("panel").replaceChildren();
  let loaded = null;
  try {
    loaded = await state.next;
  } catch (error) {
    trial.problem = error.message;
  }
  if (state.at + 1 < state.trials.length) state.next = load(state.trials[state.at + 1]);
  state.next?.catch(() => {}); // said when its turn comes
  if (!loaded) return turn();
  const {picture, views: [original, a, b]} = loaded;
  trial.figures = [a.figures, b.figures];
  stage.start(picture.width, picture.height);
  const pairs = {ab: [[a, "A"], [b, "B"]], a: [[a, "A"], [original, "the original"]], b: [[original, "the original"], [b, "B"]]};
  const look = which => Promise.all(pairs[which].map(([view, name], side) => {
    $("sides").children[side ? 2 : 0].textContent = name === "the original" ? "Original" : name;
    return stage.show(side, view.url, name);
  }));
  const looks = keys("Show", [["ab", "A and B"], ["a", "A and the original"], ["b", "the original and B"]], look);
  $("keys").replaceChildren(looks, stage.zooms);
  $("sides").children[1].textContent = `${state.at + 1} of ${state.trials.length}: ${trial.entry.name}`;
  await look("ab").catch(() => {});
  const done = pick => {
    trial.pick = pick;
    for (const view of [original, a, b]) URL.revokeObjectURL(view.url);
    return turn();
  };
  const button = (text, pick) => node("button", {type: "button", onclick: () => done(pick)}, text);
  $("panel").replaceChildren(node("p", {}, "Which one is better?"), node("div", {class: "picks"},
    button("A", trial.sides[0].codec), button("No difference", SAME), button("B", trial.sides[1].codec)));
  return undefined;
}

function turn() {
  state.at += 1;
  return state.at < state.trials.length ? show() : tally();
}

// After

// How often chance alone gives a lead of this size or more, of picks that are as likely for both.
function byChance(one, other) {
  const count = one + other;
  let term = 1, sum = 0; // binomial coefficients
  for (let at = 0; at <= count; at++) {
    if (Math.abs(count - 2 * at) >= Math.abs(one - other)) sum += term;
    term *= (count - at) / (at + 1);
  }
  return sum / 2 ** count;
}

function tally() {
  const picked = state.trials.filter(({pick}) => pick), left = state.trials.filter(({problem}) => problem);
  const codecs = [state.pair[0].codec, SAME, state.pair[1].codec];
  const names = [state.pair[0].label, "No difference", state.pair[1].label];
  const count = (trials, pick) => trials.filter(trial => trial.pick === pick).length;
  const [one, , other] = codecs.map(pick => count(picked, pick));
  const percent = 100 * byChance(one, other);
  const head = titles => node("thead", {}, node("tr", {}, titles.map(text => node("th", {scope: "col"}, text))));
  const line = ([first, ...cells]) => node("tr", {}, node("th", {scope: "row"}, first), cells.map(text => node("td", {}, text)));
  const bpp = trials => fixed(trials.reduce((sum, {figures}) => sum + figures[0].bpp, 0) / trials.length, 2);
  const rates = [...content.positions].sort((a, b) => a - b).map(position => picked.filter(trial => trial.position === position))
    .filter(trials => trials.length).map(trials => [`${bpp(trials)} bpp`, ...codecs.map(pick => count(trials, pick))]);
  const rows = picked.map(({entry, sides, figures, pick}) => {
    const bytes = state.pair.map(({codec}) => whole(figures[sides.findIndex(side => side.codec === codec)].file_bytes));
    return [entry.name, ...bytes, names[codecs.indexOf(pick)]];
  });
  document.body.classList.add("done");
  $("panel").replaceChildren(
    node("p", {id: "tally"}, `${names[0]}: ${one}. ${names[2]}: ${other}. No difference: ${count(picked, SAME)}.`),
    one + other ? node("p", {class: "quiet"}, "If both were equally good, a lead of this size or more would come up in " +
      `${fixed(percent, percent < 1 ? 1 : 0)} % of such sessions.`) : "",
    node("div", {class: "table"}, node("table", {}, node("caption", {}, "Picks by rate"), head(["rate", ...names]),
      node("tbody", {}, [...rates, ["all", ...codecs.map(pick => count(picked, pick))]].map(line)))),
    node("div", {class: "table"}, node("table", {}, node("caption", {}, "Every comparison, sizes in bytes"),
      head(["photograph", state.pair[0].label, state.pair[1].label, "picked"]), node("tbody", {}, rows.map(line)))),
    ...left.map(({entry, problem}) => node("p", {class: "quiet"}, `Left out: ${entry.name}. ${problem}`)));
}

$("stage").replaceWith(stage.element);
$("which").append(node("b", {}, "Blind comparison"));
document.body.classList.add("blind", "empty");
begin();
