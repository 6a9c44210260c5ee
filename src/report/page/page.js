"use strict";
/* The page of a run. Everything from models and data sets is packed (zlib, base64) in elements that never run, and
 * enters the page as text nodes only. */

const make = (tag, properties, ...children) => {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined) continue;
    if (key === "class") element.className = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((c) => c !== null && c !== undefined));
  return element;
};
const svg = (tag, attributes, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
const byId = (id) => document.getElementById(id);

const short = (x) => {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e6 || size < 1e-3) return Number(x.toPrecision(3)).toExponential().replace("e+", "e");
  return String(Number(x.toPrecision(4)));
};
const percent = (x) => (!Number.isFinite(x) ? "–" : x === 0 ? "0 %" : x < 1e-4 ? (100 * x).toExponential(1) + " %" : Number((100 * x).toPrecision(3)) + " %");

/* ---- data ---------------------------------------------------------------------------------------------- */

const unpack = async (text) => {
  const bytes = Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
};
const packed = (id) => {
  const element = byId(id);
  return element ? unpack(element.textContent) : Promise.resolve(null);
};

/* Shards of latents: in the page, or in files beside it that call microwShard. */
const shards = new Map();
const waiting = new Map();
globalThis.microwShard = (number, text) => {
  const ready = waiting.get(number);
  if (ready) ready(text);
};
const fetchShard = (number) =>
  new Promise((resolve, reject) => {
    const script = make("script", { src: `${meta.shard_folder}/${number}.js` });
    waiting.set(number, (text) => {
      waiting.delete(number);
      script.remove();
      resolve(text);
    });
    script.addEventListener("error", () => reject(new Error(`${meta.shard_folder}/${number}.js is not beside this page`)));
    document.head.append(script);
  });
const shard = (number) => {
  if (!shards.has(number)) {
    const element = byId("shard-" + number);
    shards.set(number, (element ? Promise.resolve(element.textContent) : fetchShard(number)).then(unpack));
    if (shards.size > 64) shards.delete(shards.keys().next().value);
  }
  return shards.get(number);
};

let meta, table; /* facts of the run; columns of all latents */

/* ---- text of models and data sets ------------------------------------------------------------------------------- */

const controls = { "\n": "⏎", "\t": "⇥", "\r": "␍" };
/* Returns nodes for a text in which invisible characters are shown. */
const visible = (text) => {
  const nodes = [];
  for (const part of text.split(/([\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069])/)) {
    if (part.length === 1 && /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/.test(part)) {
      const sign = controls[part] || "U+" + part.codePointAt(0).toString(16).padStart(4, "0").toUpperCase();
      nodes.push(make("span", { class: "control" }, sign));
    } else if (part) nodes.push(document.createTextNode(part));
  }
  return nodes;
};
const tokenBox = (text) => make("span", { class: "token", dir: "auto", title: text.length > 40 ? text.slice(0, 300) : null }, ...visible(text || "(empty)"));

/* ---- charts ------------------------------------------------------------------------------------------------ */

const ticks = (low, high, count) => {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const out = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) out.push(v);
  return out;
};
const logTicks = (low, high) => {
  const out = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
    for (const m of high / low > 50 ? [1] : [1, 2, 5]) if (m * 10 ** e >= low * 0.999 && m * 10 ** e <= high * 1.001) out.push(m * 10 ** e);
  return out.length ? out : [low, high];
};
const scale = (values, from, to, log) => {
  let low = Infinity, high = -Infinity;
  for (const v of values) if (Number.isFinite(v) && (!log || v > 0)) { if (v < low) low = v; if (v > high) high = v; }
  if (low > high) [low, high] = log ? [1, 10] : [0, 1];
  if (low === high) { high = log ? low * 1.1 : low + 1; low = log ? low / 1.1 : low; }
  const f = (v) => (log ? Math.log(v) : v);
  const place = (v) => from + ((f(v) - f(low)) / (f(high) - f(low))) * (to - from);
  place.ticks = log ? logTicks(low, high) : ticks(low, high, 5);
  return place;
};
const W = 460, H = 220, LEFT = 52, BOTTOM = 26, TOP = 8, RIGHT = 10;
const frame = (x, y) => {
  const g = svg("g");
  for (const t of y.ticks) {
    g.append(svg("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: y(t), y2: y(t) }));
    const label = svg("text", { x: LEFT - 5, y: y(t) + 4, "text-anchor": "end" });
    label.textContent = short(t);
    g.append(label);
  }
  for (const t of x.ticks) {
    const label = svg("text", { x: x(t), y: H - BOTTOM + 16, "text-anchor": "middle" });
    label.textContent = short(t);
    g.append(label);
  }
  return g;
};
const figure = (title, picture) => make("figure", {}, make("figcaption", {}, title), picture);

/* Draws a curve of ys over xs; the pointer shows the value. */
const curve = (title, xs, ys, log) => {
  const usable = ys.map((v) => (Number.isFinite(v) && (!log || v > 0) ? v : null));
  const x = scale(xs, LEFT, W - RIGHT, false), y = scale(usable.filter((v) => v !== null), H - BOTTOM, TOP, log);
  let path = "", pen = "M";
  usable.forEach((v, i) => { if (v === null) pen = "M"; else { path += `${pen}${x(xs[i]).toFixed(1)} ${y(v).toFixed(1)}`; pen = "L"; } });
  const hair = svg("line", { class: "hair", y1: TOP, y2: H - BOTTOM }), label = svg("text", { x: W - RIGHT, y: TOP + 4, "text-anchor": "end" });
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title }, frame(x, y), svg("path", { class: "curve", d: path }), hair, label);
  picture.addEventListener("pointermove", (event) => {
    const at = ((event.clientX - picture.getBoundingClientRect().left) / picture.getBoundingClientRect().width) * W;
    let nearest = 0;
    xs.forEach((v, i) => { if (Math.abs(x(v) - at) < Math.abs(x(xs[nearest]) - at)) nearest = i; });
    hair.setAttribute("x1", x(xs[nearest]));
    hair.setAttribute("x2", x(xs[nearest]));
    hair.style.visibility = "visible";
    label.textContent = `${short(xs[nearest])}: ${short(ys[nearest])}`;
  });
  picture.addEventListener("pointerleave", () => { hair.style.visibility = "hidden"; label.textContent = ""; });
  return figure(title, picture);
};
/* Draws bars between edges[i] and edges[i + 1]. */
const bars = (title, edges, counts, log) => {
  const x = scale(edges, LEFT, W - RIGHT, false), most = Math.max(...counts, 1);
  const y = scale(log ? [0.5, most] : [0, most], H - BOTTOM, TOP, log);
  const g = svg("g");
  counts.forEach((c, i) => {
    if (!c) return;
    const bar = svg("rect", { class: "bar", x: x(edges[i]) + 0.5, width: Math.max(x(edges[i + 1]) - x(edges[i]) - 1, 0.5), y: y(c), height: H - BOTTOM - y(c) });
    const label = svg("title");
    label.textContent = `${short(edges[i])} to ${short(edges[i + 1])}: ${c}`;
    bar.append(label);
    g.append(bar);
  });
  return figure(title, svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title }, frame(x, y), g));
};
const dots = (title, all, log) => {
  const points = all.filter((p) => p.x > 0 && Number.isFinite(p.y) && (!log || p.y > 0)); // the axes can show these
  const x = scale(points.map((p) => p.x), LEFT, W - RIGHT, true), y = scale(points.map((p) => p.y), H - BOTTOM, TOP, log);
  const g = svg("g");
  for (const p of points) {
    const dot = svg("circle", { class: p.best ? "dot best" : "dot", cx: x(p.x), cy: y(p.y), r: 4 });
    const label = svg("title");
    label.textContent = `${p.name}: ${short(p.x)}, ${short(p.y)}`;
    dot.append(label);
    g.append(dot);
  }
  return figure(title, svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title }, frame(x, y), g));
};
const tiles = (pairs) => make("div", { class: "tiles" }, ...pairs.filter((p) => p[1] !== undefined && p[1] !== null).map(([name, value]) => make("div", {}, make("b", {}, String(value)), name)));

/* ---- the list of latents ------------------------------------------------------------------------------------- */

const ROW = 26;
const columns = [
  { key: "latent", title: "latent", number: true, value: (i) => i, show: (i) => String(i) },
  { key: "name", title: "name", value: (i) => nameOf(i).toLowerCase(), show: (i) => nameOf(i) },
  { key: "frequency", title: "active", number: true, value: (i) => table.count[i], show: (i) => percent(table.count[i] / meta.rows) },
  { key: "max", title: "max", number: true, value: (i) => table.max[i], show: (i) => short(table.max[i]) },
  { key: "category", title: "category", value: (i) => (categoryOf(i) ? categoryOf(i) + (1 - table.f1[i]).toFixed(3) : "~"), show: (i) => categoryOf(i) || "" },
  { key: "f1", title: "F1", number: true, value: (i) => (categoryOf(i) ? table.f1[i] : -1), show: (i) => (categoryOf(i) ? table.f1[i].toFixed(2) : "") },
  { key: "precision", title: "prec.", number: true, value: (i) => (categoryOf(i) ? table.precision[i] : -1), show: (i) => (categoryOf(i) ? table.precision[i].toFixed(2) : "") },
  { key: "score", title: "score", number: true, value: (i) => table.score[i] ?? -1, show: (i) => (table.score[i] === null ? "" : table.score[i].toFixed(2)) },
];
/* Returns the F1 of a latent that is always active, for the category of this one, or null. */
const chanceOf = (i) => {
  const known = categoryOf(i) !== null && meta.scores ? meta.scores.best.find((b) => b.number === table.category[i]) : null;
  return known ? known.chance.toFixed(2) : null;
};
const nameOf = (i) => table.name[i] ?? "";
/* Returns the category that a latent detects best, or null. */
const categoryOf = (i) => (table.category && table.category[i] >= 0 ? meta.categories[table.category[i]] : null);
const state = { sort: "frequency", down: true, query: "", dead: false, order: [], chosen: -1, tab: "latents" };
let searchable; /* [n] text that the search looks in, in lower case */

const matches = (i) => {
  if (!state.dead && table.count[i] === 0) return false;
  return state.query.split(/\s+/).every((word) => searchable[i].includes(word));
};
const arrange = () => {
  const column = columns.find((c) => c.key === state.sort), sign = state.down ? -1 : 1;
  const list = [];
  for (let i = 0; i < table.count.length; i++) if (matches(i)) list.push(i);
  const values = new Map(list.map((i) => [i, column.value(i)]));
  list.sort((a, b) => { const x = values.get(a), y = values.get(b); return x < y ? -sign : x > y ? sign : a - b; });
  state.order = list;
};

/* Creates the list; only visible rows are elements of the page. */
const listView = () => {
  const rows = make("div", { class: "rows", role: "listbox", tabindex: "0", id: "rows", "aria-label": "latents" });
  const space = make("div");
  const label = make("span", { class: "faint", id: "count" });
  const head = make("div", { class: "grid head" }, ...columns.map((c) => make("button", { type: "button", "data-sort": c.key, onclick: () => {
    if (state.sort === c.key) state.down = !state.down;
    else { state.sort = c.key; state.down = Boolean(c.number) && c.key !== "latent"; }
    refresh();
  } }, c.title)));
  const draw = () => {
    const first = Math.max(0, Math.floor(rows.scrollTop / ROW) - 6), last = Math.min(state.order.length, first + Math.ceil((rows.clientHeight || 800) / ROW) + 12);
    const seen = [];
    for (let at = first; at < last; at++) {
      const latent = state.order[at];
      const row = make("div", { class: "grid row" + (latent === state.chosen ? " chosen" : ""), role: "option", "aria-selected": String(latent === state.chosen), "data-latent": latent, onclick: () => open(latent) },
        ...columns.map((c) => make("span", { class: c.number ? "number" : null, dir: c.number ? null : "auto" }, ...visible(c.show(latent)))));
      row.style.top = at * ROW + "px";
      seen.push(row);
    }
    space.replaceChildren(...seen);
  };
  const refresh = () => {
    arrange();
    space.style.height = state.order.length * ROW + "px";
    for (const button of head.children) button.setAttribute("aria-sort", button.dataset.sort === state.sort ? (state.down ? "descending" : "ascending") : "none");
    label.textContent = `${state.order.length} of ${table.count.length}`;
    rows.scrollTop = 0;
    draw();
  };
  rows.append(space);
  rows.addEventListener("scroll", draw);
  new ResizeObserver(draw).observe(rows);
  const search = make("input", { type: "search", id: "search", placeholder: "search names, notes, words, categories", value: state.query, oninput: () => { state.query = search.value.trim().toLowerCase(); refresh(); } });
  const dead = make("input", { type: "checkbox", id: "dead", onchange: () => { state.dead = dead.checked; refresh(); } });
  const left = make("div", { class: "left" }, make("div", { class: "tools" }, search, make("label", { class: "faint" }, dead, " show dead"), label), head, rows);
  left.refresh = refresh;
  left.draw = draw;
  left.show = (latent) => {
    const at = state.order.indexOf(latent);
    if (at < 0) return;
    if (at * ROW < rows.scrollTop || (at + 1) * ROW > rows.scrollTop + rows.clientHeight) rows.scrollTop = at * ROW - rows.clientHeight / 2;
    draw();
  };
  return left;
};

/* ---- one latent ------------------------------------------------------------------------------------------------ */

const textLine = (text, tokens, most) => {
  const words = make("span", { class: "words", dir: "auto" });
  text.t.forEach((id, i) => {
    const value = text.v[i] || 0;
    const parts = text.g && text.g[i]; /* tokens that share a character, which is shown whole */
    const span = make("span", { class: i === text.c ? "center" : null, title: parts || (value > 0 ? short(value) : null) }, ...visible(tokens[id]));
    if (value > 0) span.style.backgroundColor = `color-mix(in srgb, var(--mark) ${Math.min(90, Math.round(12 + (70 * value) / most))}%, transparent)`;
    words.append(span);
  });
  return make("div", { class: "text" }, make("span", { class: "value", title: `document ${text.d}, position ${text.p}` }, short(text.v[text.c])), words);
};
const latentLink = (latent) => make("a", { href: "#latent=" + latent }, String(latent), " ", ...visible(nameOf(latent)));
const latentList = (title, list) => (list.length ? make("div", {}, make("h3", {}, title), make("div", { class: "list" }, ...list.flatMap(([latent, value]) => [make("span", { class: "name", dir: "auto" }, latentLink(latent)), make("span", { class: "number faint" }, value.toFixed(3))]))) : null);
const tokenList = (title, list, tokens) => (list.length ? make("div", {}, make("h3", {}, title), make("div", { class: "list" }, ...list.flatMap(([id, value]) => [make("span", { class: "name" }, tokenBox(tokens[id])), make("span", { class: "number faint" }, short(value))]))) : null);

const shares = (title, names, rates) => make("div", {}, make("h3", {}, title), make("div", { class: "list" }, ...names.flatMap((name, i) => [make("span", { class: "name", dir: "auto" }, ...visible(name)), make("span", { class: "number faint" }, rates[i])])));

const latentPage = (i, data, tokens) => {
  const most = table.max[i] || 1, parts = [];
  parts.push(make("h2", { dir: "auto", id: "latent-title" }, `${i} `, ...visible(nameOf(i))));
  const by = table.by[i] ? `, named by ${table.by[i]}` : "";
  parts.push(tiles([["frequency", percent(table.count[i] / meta.rows)], ["active tokens", table.count[i]], ["largest activation", short(table.max[i])],
    ["category that it detects best", categoryOf(i)],
    ["F1 for this category", categoryOf(i) ? table.f1[i].toFixed(2) : null],
    ["F1 at chance", chanceOf(i)],
    ["precision, recall", categoryOf(i) ? `${percent(table.precision[i])}, ${percent(table.recall[i])}` : null],
    [`detection score, 0.5 at chance${by}`, table.score[i] === null ? null : table.score[i].toFixed(2)]]));
  if (table.note[i]) parts.push(make("p", { dir: "auto" }, ...visible(table.note[i])));
  if (!data) return parts;
  if (served) parts.push(steeringControls(i));
  if (data.bins.length) {
    const edges = Array.from({ length: data.bins.length + 1 }, (_, b) => b * data.width);
    parts.push(make("div", { class: "columns" }, bars("histogram of activations (log scale)", edges, data.bins, true)));
  }
  parts.push(make("div", { class: "columns" }, tokenList("promoted tokens", data.promoted, tokens), tokenList("suppressed tokens", data.suppressed, tokens)));
  if (data.top.length) parts.push(make("h3", {}, "strongest texts"), ...data.top.map((t) => textLine(t, tokens, most)));
  const bands = ["strongest fifth of active tokens", "second fifth", "third fifth", "fourth fifth", "weakest fifth"];
  data.samples.forEach((group, q) => { if (group.length) parts.push(make("h3", {}, "random texts, " + bands[q]), ...group.map((t) => textLine(t, tokens, most))); });
  parts.push(make("div", { class: "columns" }, latentList("most similar (cosine of decoder rows)", data.alike), latentList("coactive (Jaccard index)", data.together)));
  const groups = [];
  if (meta.sources.length > 1) groups.push(shares("frequency by data file", meta.sources, data.sources.map((c, s) => percent(c / meta.source_rows[s]))));
  if (data.categories) groups.push(shares("categories of active tokens", data.categories.map((c) => meta.categories[c[0]]), data.categories.map((c) => percent(c[1] / table.count[i]))));
  if (groups.length) parts.push(make("div", { class: "columns" }, ...groups));
  return parts;
};

let list, detail;
const open = async (latent, keep) => {
  if (!(latent >= 0 && latent < table.count.length)) return;
  state.chosen = latent;
  if (!keep) history.replaceState(null, "", "#latent=" + latent);
  if (state.tab !== "latents") show("latents");
  list.show(latent);
  try {
    const number = Math.floor(latent / meta.shard_size), piece = await shard(number);
    if (state.chosen !== latent) return; /* another latent was chosen meanwhile */
    detail.replaceChildren(...latentPage(latent, piece.latents[latent - number * meta.shard_size], piece.tokens));
  } catch (error) {
    detail.replaceChildren(make("p", { class: "empty" }, String(error.message)));
  }
  detail.scrollTop = 0;
};

/* ---- the other views ---------------------------------------------------------------------------------------- */

const trainingPage = () => {
  const h = meta.history, page = make("div", { class: "page" });
  const wanted = [["loss", "loss", true], ["fvu", "FVU, fraction of variance unexplained", true], ["l0", "L0, active latents per token", false], ["dead", "dead latents", false], ["lr", "learning rate", false], ["tokens_per_second", "tokens per second", false]];
  const drawn = wanted.filter(([key]) => Array.isArray(h[key]) && h[key].length > 1).map(([key, title, log]) => curve(title, h.tokens || h.step, h[key], log));
  page.append(make("h2", {}, "Training, over tokens"), make("div", { class: "charts" }, ...drawn));
  return page;
};
const interval = (x, low, high, digits) => (!Number.isFinite(x) ? "–" : `${x.toFixed(digits)}${Number.isFinite(low) ? ` (${low.toFixed(digits)} to ${high.toFixed(digits)})` : ""}`);
const numberTable = (heads, rows) => make("table", {}, make("tr", {}, ...heads.map((t) => make("th", {}, t))), ...rows.map(([first, ...rest]) => make("tr", {}, make("td", { dir: "auto" }, first), ...rest.map((v) => make("td", { class: "number" }, v)))));
const scoreParts = () => {
  const s = meta.scores, best = s.best.map((b) => [b.category, percent(b.share), latentLink(b.latent), b.f1.toFixed(2), b.chance.toFixed(2), ...s.scored.map((one) => interval(one.by_category[b.number], NaN, NaN, 2))]);
  return [make("h3", {}, "categories: each by the latent that detects it best"),
    make("p", { class: "faint" }, `F1 of the best latent of each of ${s.scored[0].categories} categories, chosen on half of the documents and measured on the ${s.scored[0].rows} tokens of the others; means with 95 % intervals`),
    numberTable(["", "F1", "above chance", "trained less this"], s.scored.map((one, i) => [one.name, interval(...one.f1, 3), interval(...one.f1_lift, 3), i ? interval(...one.f1_lead, 3) : ""])),
    numberTable(["category", "share of tokens", "best latent of all tokens", "its F1", "F1 at chance", ...s.scored.map((one) => `F1, ${one.name}`)], best)];
};
const evaluationPage = () => {
  const page = make("div", { class: "page" });
  page.append(...(meta.evaluation ? evaluationParts() : []), ...(meta.scores ? scoreParts() : []));
  return page;
};
const recovered = (e, kind) => {
  const ends = e[`ce_recovered_${kind}_95`] || [];
  return interval(100 * e["ce_recovered_" + kind], 100 * ends[0], 100 * ends[1], 2);
};
const withInterval = (e, key) => {
  const ends = e[key + "_95"] || [];
  return short(e[key]) + (Number.isFinite(ends[0]) ? ` (${short(ends[0])} to ${short(ends[1])})` : "");
};
const comparedTable = (e) => {
  const predicted = Boolean(e.cross_entropy), latents = table ? table.count.length : NaN;
  const row = (name, one, n, kl) => [name, withInterval(one, "fvu"), short(one.explained_variance), short(one.l0), percent(one.dead / n), ...(predicted ? [recovered(one, "zero"), recovered(one, "mean"), short(kl)] : [])];
  return numberTable(["", "FVU (95 %)", "explained variance", "L0", "dead latents", ...(predicted ? ["cross-entropy recovered from zero, % (95 %)", "from the mean", "KL from clean"] : [])],
    [row("trained", e, latents, predicted ? e.kl.sae : NaN), ...Object.entries(e.baselines).map(([name, one]) => row(name, one, one.latents, one.kl))]);
};
const evaluationParts = () => {
  const e = meta.evaluation, page = make("div");
  page.append(make("h2", {}, "Evaluation"), tiles([["FVU (95 %)", withInterval(e, "fvu")], ["explained variance", short(e.explained_variance)], ["cosine (95 %)", withInterval(e, "cosine")], ["L0 (95 %)", withInterval(e, "l0")], ["dead latents", e.dead], ["dense latents (active on more than 10 % of tokens)", e.dense], ["tokens", e.rows]]));
  if (e.baselines) page.append(make("h3", {}, "beside SAEs that were not trained"), comparedTable(e));
  if (e.cross_entropy) {
    page.append(make("h3", {}, `next-token prediction, ${e.predicted_on_tokens} tokens`), make("table", {}, make("tr", {}, ...["", "cross-entropy", "KL from clean"].map((t) => make("th", {}, t))),
      ...[["clean", "clean model"], ["sae", "with the SAE"], ["zero", "site at zero"], ["mean", "site at its mean"]].map(([key, title]) => make("tr", {}, make("td", {}, title), make("td", { class: "number" }, short(e.cross_entropy[key])), make("td", { class: "number" }, short(e.kl[key]))))),
      tiles([["cross-entropy recovered, against zero ablation, % (95 %)", recovered(e, "zero")], ["against mean ablation", recovered(e, "mean")]]));
  }
  const charts = make("div", { class: "charts" });
  if (e.frequency_bins) charts.append(bars("latents by frequency, powers of ten", e.frequency_bins.map((_, b) => -(e.frequency_bins.length - b)).concat(0), [...e.frequency_bins].reverse(), false));
  if (Array.isArray(e.by_position) && e.by_position.length > 1) charts.append(curve("FVU by position in the sequence", e.by_position.map((p) => p.first), e.by_position.map((p) => p.fvu), false));
  page.append(charts);
  return [page];
};
const sweepPage = () => {
  const points = meta.sweep, page = make("div", { class: "page" });
  page.append(make("h2", {}, "Sweep"), make("div", { class: "charts" },
    dots("FVU over L0; red: no point that is as sparse is clearly better", points.map((p) => ({ x: p.l0, y: p.fvu, name: p.point, best: p.best_fvu })), true),
    points.some((p) => Number.isFinite(p.ce_recovered_zero)) ? dots("cross-entropy recovered over L0", points.map((p) => ({ x: p.l0, y: p.ce_recovered_zero, name: p.point, best: p.best_ce })), false) : null));
  page.append(make("table", {}, make("tr", {}, ...["point", "L0", "FVU", "dead", "cross-entropy recovered"].map((t) => make("th", {}, t))),
    ...points.map((p) => make("tr", {}, make("td", {}, p.point), ...[p.l0, p.fvu, p.dead].map((v) => make("td", { class: "number" }, short(v))), make("td", { class: "number" }, percent(p.ce_recovered_zero))))));
  return page;
};
const steeringPage = () => {
  const s = meta.steering, page = make("div", { class: "page" });
  page.append(make("h2", {}, "Steering"));
  const share = (c) => (!Number.isFinite(c.percent) ? "–" : `${c.percent.toFixed(1)} % (${Number.isFinite(c.low) ? `${c.low.toFixed(1)} to ${c.high.toFixed(1)}` : "–"})`);
  page.append(make("table", {}, make("tr", {}, ...["variant", "edits", "words of the category", "cross-entropy", "KL from clean"].map((t) => make("th", {}, t))),
    ...s.variants.map((v) => make("tr", {}, make("td", { dir: "auto" }, ...visible(v.name)),
      make("td", {}, ...v.edits.map((e) => make("div", {}, make("a", { href: "#latent=" + e.latent }, String(e.latent)), ` × ${short(e.scale)} + ${short(e.add)}`))),
      make("td", {}, v.category ? `${v.category.name}: ${share(v.category)}, unchanged ${share(v.category.unchanged)}` : "–"), make("td", { class: "number" }, v.predictions ? short(v.predictions.cross_entropy) : "–"), make("td", { class: "number" }, v.predictions ? short(v.predictions.kl) : "–")))));
  s.prompts.forEach((prompt, p) => {
    page.append(make("h3", {}, ""), make("p", { dir: "auto" }, make("b", {}, ...visible(prompt))));
    page.append(make("table", {}, ...s.variants.map((v) => make("tr", {}, make("th", {}, ...visible(v.name)), make("td", { class: "side", dir: "auto" }, ...visible((v.texts[p] || [])[0] || ""))))));
  });
  return page;
};
const runPage = () => {
  const page = make("div", { class: "page" });
  page.append(make("h2", {}, "Run"), make("table", {}, ...Object.entries(meta.facts).map(([key, value]) => make("tr", {}, make("th", {}, key), make("td", { class: "side", dir: "auto" }, ...visible(String(value)))))));
  page.append(make("h3", {}, "effective configuration"), make("pre", {}, meta.config));
  return page;
};

/* ---- the lab, if a server answers ----------------------------------------------------------------------------- */

const served = location.protocol.startsWith("http");
const steered = new Map(); /* latent -> {scale, add} */
const lab = { prompt: "", temperature: 0, tokens: 40 };

const steeringControls = (latent) => {
  const edit = steered.get(latent) || { scale: 1, add: 0 };
  const field = (key) => make("input", { type: "number", step: "any", value: edit[key], "aria-label": key });
  const scale = field("scale"), add = field("add"), label = make("span", { class: "faint" }, steered.has(latent) ? " in the lab" : "");
  const set = () => {
    steered.set(latent, { scale: Number(scale.value), add: Number(add.value) });
    label.textContent = " in the lab";
  };
  return make("p", {}, "× ", scale, " + ", add, " ", make("button", { type: "button", onclick: set }, "steer in the lab"), label);
};
const continueText = async (out) => {
  const edits = [...steered].map(([latent, e]) => ({ latent, scale: e.scale, add: e.add }));
  out.replaceChildren(make("p", { class: "faint" }, "…"));
  try {
    const response = await fetch("generate", { method: "POST", body: JSON.stringify({ prompt: lab.prompt, temperature: lab.temperature, max_new_tokens: lab.tokens, edits }) });
    const reply = await response.json();
    if (reply.error) throw new Error(reply.error);
    out.replaceChildren(make("table", {}, ...[["unchanged", reply.unchanged], ["steered", reply.steered ?? reply.turned]].filter((line) => line[1] !== undefined)
      .map(([name, text]) => make("tr", {}, make("th", {}, name), make("td", { class: "side", dir: "auto" }, ...visible(text))))));
  } catch (error) {
    out.replaceChildren(make("p", { class: "empty" }, error.message));
  }
};
const labPage = () => {
  const out = make("div", { id: "lab-out" });
  const prompt = make("textarea", { id: "lab-prompt", rows: 3, cols: 80, oninput: () => { lab.prompt = prompt.value; } });
  prompt.value = lab.prompt;
  const number = (key, step) => {
    const input = make("input", { type: "number", value: lab[key], step, min: 0, oninput: () => { lab[key] = Number(input.value); } });
    return input;
  };
  const rows = [...steered].map(([latent, e]) => make("tr", {}, make("td", {}, latentLink(latent)), make("td", {}, `× ${short(e.scale)} + ${short(e.add)}`),
    make("td", {}, make("button", { type: "button", onclick: () => { steered.delete(latent); show("lab"); } }, "remove"))));
  return make("div", { class: "page" }, make("h2", {}, "Lab"),
    rows.length ? make("table", {}, ...rows) : make("p", { class: "faint" }, "no latent is steered: open a latent to steer it"),
    make("p", {}, prompt), make("p", {}, "temperature ", number("temperature", 0.1), " tokens ", number("tokens", 1), " ", make("button", { type: "button", id: "lab-go", onclick: () => continueText(out) }, "continue")), out);
};

/* ---- views and keys --------------------------------------------------------------------------------------------- */

const views = [["latents", "Latents", null], ["training", "Training", trainingPage], ["evaluation", "Evaluation", evaluationPage], ["sweep", "Sweep", sweepPage], ["steering", "Steering", steeringPage], ["run", "Run", runPage], ["lab", "Lab", labPage]];
const has = (key) => ({ latents: table, training: meta.history, evaluation: meta.evaluation || meta.scores, sweep: meta.sweep, steering: meta.steering && meta.steering.variants, run: true, lab: table && served })[key];

const show = (key) => {
  const main = byId("view");
  state.tab = key;
  for (const button of byId("tabs").children) {
    if (button.dataset.view === key) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  if (key === "latents") {
    main.className = "split";
    main.replaceChildren(list, detail);
    list.draw();
  } else {
    main.className = "";
    main.replaceChildren(views.find((v) => v[0] === key)[2]());
  }
};
const followAddress = () => {
  const latent = /^#latent=(\d+)$/.exec(location.hash), view = /^#view=(\w+)$/.exec(location.hash);
  if (latent && table) open(Number(latent[1]), true);
  else if (view && views.some((v) => v[0] === view[1]) && has(view[1])) show(view[1]);
};
const step = (by) => {
  const at = state.order.indexOf(state.chosen), next = at < 0 ? 0 : Math.min(state.order.length - 1, Math.max(0, at + by));
  if (state.order.length) open(state.order[next]);
};
const switchTheme = () => {
  const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
};
const press = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches && event.target.matches("textarea, input[type=number]")) return;
  const typing = event.target.matches && event.target.matches("input[type=search]");
  if (typing && event.key === "Escape") { event.target.blur(); return; }
  if (typing && event.key !== "ArrowDown" && event.key !== "ArrowUp" && event.key !== "Enter") return;
  const known = views.filter((v) => has(v[0]));
  const keys = { j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1), g: () => step(-Infinity), G: () => step(Infinity), t: switchTheme, "?": () => byId("keys").showModal(), "/": () => byId("search") && byId("search").focus() };
  if (typing && event.key === "Enter") { if (state.order.length) open(state.order[0]); event.preventDefault(); return; }
  if (/^[1-9]$/.test(event.key) && known[event.key - 1]) show(known[event.key - 1][0]);
  else if (keys[event.key]) keys[event.key]();
  else return;
  event.preventDefault();
};

const begin = async () => {
  [meta, table] = await Promise.all([packed("meta"), packed("table")]);
  byId("title").textContent = document.title = meta.title;
  byId("theme").addEventListener("click", switchTheme);
  byId("help").addEventListener("click", () => byId("keys").showModal());
  for (const [key, title] of views) if (has(key)) byId("tabs").append(make("button", { type: "button", "data-view": key, onclick: () => { history.replaceState(null, "", "#view=" + key); show(key); } }, title));
  if (table) {
    if (table.category) state.sort = "f1";
    searchable = table.count.map((_, i) => [i, nameOf(i), table.note[i] || "", table.words[i] || "", categoryOf(i) || ""].join(" ").toLowerCase());
    list = listView();
    detail = make("div", { class: "right", id: "detail" }, make("p", { class: "empty" }, "choose a latent; ? shows the keys"));
    list.refresh();
  }
  addEventListener("hashchange", followAddress);
  addEventListener("keydown", press);
  show(views.find((v) => has(v[0]))[0]);
  followAddress();
  document.documentElement.dataset.ready = "yes";
};
begin().catch((error) => {
  byId("view").replaceChildren(make("p", { class: "empty" }, "the page cannot be drawn: " + error.message));
  throw error;
});
