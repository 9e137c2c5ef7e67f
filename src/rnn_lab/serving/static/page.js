"use strict";
// The page of `rnn-lab serve`: classifies and explains a text, compares two runs, labels a file.
// Texts, words and names of classes are untrusted: they are only ever set as text, never as HTML.
(function () {
  const LIVE_DELAY = 250; // ms after the last key before a text is classified
  const EXPLAIN_DELAY = 450; // ms after that before it is explained
  const LIVE_LENGTH = 2500; // characters; a longer text is explained on request
  const RETRY_DELAY = 2500; // ms between two attempts to reach the service
  const MAX_RETRIES = 3; // of a request that is answered with 503
  const MAX_ERROR = 0.01; // of completeness, above which the page warns
  const MAX_UNITS = 64; // rows of a heatmap
  const MAX_CLASSES = 8; // shown before "Show all"
  const MAX_STRONGEST = 5; // words listed for and against
  const MAX_LINES = 4; // classes in the chart
  const PREVIEW_ROWS = 8; // of a labelled file
  const CHART = { left: 46, right: 10, top: 22, probability: 130, gap: 30, attribution: 84, curve: 92 };

  const FILM_EXAMPLES = [
    ["Faint praise", "Not bad at all. The plot is thin, but the cast is a joy to watch."],
    [
      "A turn",
      "The first half is brilliant, funny and moving. Then it falls apart, and the last hour is a waste of time.",
    ],
    [
      "Irony",
      "Oh great, another sequel. Exactly what the world needed: two more hours of explosions and no story.",
    ],
    [
      "A longer review",
      "I went in with low expectations and was surprised. The story begins slowly, and for twenty minutes I thought about leaving. But the two leads are wonderful together, the dialogue is sharp, and the photography makes every street of the old town look like a painting. Some jokes do not work and the ending is too neat. Still, I left the cinema with a smile, and I would see it again tomorrow.",
    ],
  ];
  const OTHER_EXAMPLES = [
    [
      "A complaint",
      "I was charged twice this month and nobody answers my messages. Please refund the second payment.",
    ],
    ["A headline", "Central bank raises interest rates as inflation slows"],
    ["A question", "How do I reset my password if I no longer have my old phone?"],
    [
      "A review",
      "The parcel came a week late and the lamp is broken, but the support was friendly and quick.",
    ],
  ];

  const NO_EXPLANATION =
    "This model has no explanation: an exported ONNX file has no gradients and no gates. " +
    "Serve the run folder instead.";

  const BLUE = [0, 114, 178];
  const ORANGE = [213, 94, 0];
  const PAPER = { light: [255, 255, 255], dark: [34, 38, 43] }; // --word
  const VIRIDIS = [
    "440154",
    "482878",
    "3e4989",
    "31688e",
    "26828e",
    "1f9e89",
    "35b779",
    "6ece58",
    "b5de2b",
    "fde725",
  ].map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const darkScheme = matchMedia("(prefers-color-scheme: dark)");

  const byId = (id) => document.getElementById(id);
  const input = byId("text");
  const runChoice = byId("run");
  const compareChoice = byId("compare");
  let service = null; // the answer of /runs
  let views = []; // one per run that is shown
  let controller = new AbortController(); // of the requests for the present text
  let timer = 0;
  let chosenClass = null; // to explain; null: the most probable one

  // ---- Elements and formats ----

  function make(tag, options = {}, ...children) {
    const one = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "class") one.className = value;
      else if (name === "text") one.textContent = value;
      else one.setAttribute(name, value);
    }
    one.append(...children);
    return one;
  }

  function drawn(tag, attributes = {}, text) {
    const one = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
    if (text !== undefined) one.textContent = text;
    return one;
  }

  const path = (name, d) => drawn("path", { class: name, d });
  const label = (x, y, text, anchor = "start") => drawn("text", { x, y, "text-anchor": anchor }, text);
  const through = (points) => "M" + points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
  const isolated = (text) => make("bdi", { text }); // its direction does not change its surroundings

  function setOptions(select, values, names = values) {
    const chosen = select.value;
    select.replaceChildren(...values.map((value, i) => make("option", { value, text: names[i] })));
    if (values.includes(chosen)) select.value = chosen;
  }

  function shorten(text, length) {
    const letters = Array.from(text);
    return letters.length > length ? letters.slice(0, length - 1).join("") + "…" : text;
  }

  function percent(share) {
    if (share > 0.9995) return "> 99.9 %"; // a probability of "100 %" would be no probability
    if (share > 0 && share < 0.0005) return "< 0.1 %";
    return (100 * share).toFixed(1) + " %";
  }

  function signed(value, digits = 2) {
    const text = Math.abs(value).toFixed(digits);
    return Number(text) === 0 ? text : (value < 0 ? "−" : "+") + text;
  }

  const counted = (count, noun) => count.toLocaleString("en") + " " + noun + (count === 1 ? "" : "s");
  const megabytes = (bytes) => (bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 1) + " MiB";
  const limited = (value, low, high) => Math.min(high, Math.max(low, value));
  const greatest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

  // ---- Colours ----

  const mixed = (from, to, share) => from.map((part, i) => part + (to[i] - part) * share);
  const css = (colour) => `rgb(${colour.map(Math.round).join(" ")})`;

  // From -1, orange, through the paper to 1, blue.
  function diverging(strength) {
    const paper = darkScheme.matches ? PAPER.dark : PAPER.light;
    return mixed(paper, strength > 0 ? BLUE : ORANGE, Math.min(1, Math.abs(strength)));
  }

  function viridis(share) {
    const place = limited(share, 0, 1) * (VIRIDIS.length - 1);
    const below = Math.floor(place);
    return mixed(VIRIDIS[below], VIRIDIS[Math.min(below + 1, VIRIDIS.length - 1)], place - below);
  }

  // Black or white, whichever has the greater contrast by WCAG 2.1: at least 4.5 to 1.
  function inkOn(colour) {
    const [red, green, blue] = colour
      .map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    return (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) ? "#000" : "#fff";
  }

  function fillRamp(ramp, colourAt) {
    ramp.replaceChildren(
      ...Array.from({ length: 41 }, (_, i) => {
        const step = make("i");
        step.style.setProperty("--colour", css(colourAt(i / 40)));
        return step;
      }),
    );
  }

  // ---- The service ----

  class ServiceError extends Error {
    constructor(message, status) {
      super(message);
      this.status = status; // 0: no answer
    }
  }

  function pause(ms, signal) {
    return new Promise((resolve, reject) => {
      const waiting = setTimeout(resolve, ms);
      signal?.addEventListener("abort", () => {
        clearTimeout(waiting);
        reject(new DOMException("", "AbortError"));
      });
    });
  }

  async function request(path, options = {}, onWait = () => {}) {
    for (let attempt = 0; ; attempt++) {
      const token = sessionStorage.getItem("token");
      const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
      let answer;
      try {
        answer = await fetch(path, { ...options, headers });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        waitForService();
        throw new ServiceError("The service does not answer.", 0);
      }
      if (answer.ok) return answer;
      if (answer.status === 401) {
        await askForToken(token);
        continue;
      }
      const message = await errorOf(answer);
      if (answer.status !== 503 || attempt >= MAX_RETRIES) {
        throw new ServiceError(message, answer.status);
      }
      const seconds = limited(Number(answer.headers.get("Retry-After")) || 1, 1, 10);
      onWait(`The service is busy. The page tries again in ${counted(seconds, "second")}.`);
      await pause(1000 * seconds, options.signal);
    }
  }

  async function errorOf(answer) {
    try {
      return String((await answer.json()).error);
    } catch {
      return `The service answered with the status ${answer.status}.`;
    }
  }

  async function post(path, body, signal, onWait) {
    const headers = { "Content-Type": "application/json" };
    const answer = await request(
      path,
      { method: "POST", headers, body: JSON.stringify(body), signal },
      onWait,
    );
    try {
      return await answer.json();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      waitForService();
      throw new ServiceError("The service stopped in the middle of an answer.", 0);
    }
  }

  function explainError(error) {
    if (!(error instanceof ServiceError)) {
      console.error(error);
      return "The page cannot show this answer.";
    }
    const hints = {
      408: "The connection is too slow for this text.",
      413: "Use a smaller text or file.",
      503: "It has more requests than it can answer. Try again in a moment.",
      504: "A shorter text takes less time.",
    };
    const sentence = error.message.replace(/([^.!?…])$/, "$1.");
    return [sentence.charAt(0).toUpperCase() + sentence.slice(1), hints[error.status]]
      .filter(Boolean)
      .join(" ");
  }

  let unreachable = false;

  // Ask until the service answers, then load the page's contents again.
  async function waitForService() {
    if (unreachable) return;
    unreachable = true;
    byId("offline").hidden = false;
    for (;;) {
      await pause(RETRY_DELAY);
      try {
        if ((await fetch("health")).ok) break;
      } catch {
        // still no answer
      }
    }
    unreachable = false;
    byId("offline").hidden = true;
    start();
  }

  let asking = null; // a promise, while the dialog is open

  // Resolve once there is another token than the one that was refused.
  function askForToken(refused) {
    if (sessionStorage.getItem("token") !== refused) return Promise.resolve();
    asking ??= new Promise((resolve, reject) => {
      const dialog = byId("token");
      const form = dialog.querySelector("form");
      const value = byId("token-value");
      byId("token-problem").hidden = refused === null;
      value.value = "";
      dialog.showModal();
      value.focus();
      form.onsubmit = (event) => {
        event.preventDefault();
        sessionStorage.setItem("token", value.value.trim());
        dialog.close("given");
      };
      dialog.onclose = () => {
        asking = null;
        if (dialog.returnValue === "given") resolve();
        else reject(new ServiceError("The service needs an access token.", 401));
        dialog.returnValue = "";
      };
    });
    return asking;
  }

  function takeTokenFromAddress() {
    const token = new URLSearchParams(location.hash.slice(1)).get("token");
    if (!token) return;
    sessionStorage.setItem("token", token);
    history.replaceState(null, "", location.pathname + location.search);
  }

  // ---- One text and one run ----

  class View {
    constructor(run) {
      this.run = run;
      this.prediction = this.explanation = this.gate = null;
      this.cursor = -1; // of the words read
      this.root = byId("result-template").content.firstElementChild.cloneNode(true);
      const part = (selector) => this.root.querySelector(selector);
      this.part = part;
      part(".model bdi").textContent = run.name;
      part(".model").hidden = service.runs.length === 1;
      part(".thresholds").hidden = run.thresholds === null;
      part(".calibrated").hidden = run.temperature === 1;
      this.describe();
      part(".problem button").addEventListener("click", () => update(true));
      part(".unexplained button").addEventListener("click", () => update(true));
      part(".target").addEventListener("change", (event) => {
        const index = event.target.value;
        chosenClass = index === "" ? null : run.classes[Number(index)];
        for (const view of views) view.explainAgain();
      });
      part(".layers select").addEventListener("change", () => this.showGates());
      part(".text").addEventListener("pointerover", (event) => {
        const word = event.target.closest("[data-word]");
        if (word) this.point(Number(word.dataset.word));
      });
      part(".values").addEventListener("toggle", () => this.showTable());
      for (const plot of this.root.querySelectorAll(".plot")) this.listen(plot);
      this.observer = new ResizeObserver(() => this.drawCharts());
      this.observer.observe(part(".words .plot"));
    }

    describe() {
      const { description, metrics, config } = this.run;
      this.part(".description").textContent = description;
      const listed = (facts, format) =>
        Object.entries(facts).flatMap(([name, value]) => [
          make("dt", {}, isolated(name)),
          make("dd", {}, isolated(format(value))),
        ]);
      const rounded = (value) =>
        typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value);
      this.part(".metrics").replaceChildren(...listed(metrics, rounded));
      this.part(".config").replaceChildren(...listed(config, String));
    }

    setBusy(busy) {
      this.root.setAttribute("aria-busy", String(busy));
      this.root.classList.toggle("stale", busy);
    }

    // Show that the service works, and what went wrong.
    async attempt(work) {
      this.setBusy(true);
      try {
        await work((message) => this.showProblem(message, true));
        this.part(".problem").hidden = true;
      } catch (error) {
        if (error.name === "AbortError") return; // a newer text is on its way
        const isRefused = error.status === 422 && this.answered; // classified all the same
        this.hideExplanation(isRefused ? explainError(error) : "", false);
        this.part(".problem").hidden = isRefused;
        if (!isRefused) this.showProblem(explainError(error));
      }
      this.setBusy(false);
    }

    // Classify, then explain: at once if `asked`, else after a pause in typing.
    update(text, asked, signal) {
      this.text = text;
      this.answered = false;
      this.part(".unexplained").hidden = true;
      return this.attempt(async (onWait) => {
        this.answer = post("predict", { text, run: this.run.name }, signal, onWait);
        this.showPrediction((await this.answer).predictions[0]);
        this.answered = true;
        this.part(".problem").hidden = true;
        if (!this.run.explains) {
          this.hideExplanation(NO_EXPLANATION, false);
        } else if (!asked && text.length > LIVE_LENGTH) {
          const length = LIVE_LENGTH.toLocaleString("en");
          this.hideExplanation(`A text of more than ${length} characters is explained on request.`, true);
        } else {
          if (!asked) await pause(EXPLAIN_DELAY, signal);
          await this.explain(signal, onWait);
        }
      });
    }

    explainAgain() {
      const { signal } = controller;
      return this.explanation && this.attempt((onWait) => this.explain(signal, onWait));
    }

    async explain(signal, onWait) {
      const body = { text: this.text, run: this.run.name, units: MAX_UNITS };
      const label = chosenClass ?? (await this.commonClass());
      if (this.run.classes.includes(label)) body.label = label;
      let answer;
      try {
        answer = await post("explain", body, signal, onWait);
      } catch (error) {
        if (error.status !== 422 || !error.message.startsWith("units:")) throw error;
        answer = await post("explain", { ...body, units: 0 }, signal, onWait); // no heatmap: too many values
      }
      this.showExplanation(answer);
    }

    // Beside another run, explain the class that the first one predicts: so they can be compared.
    async commonClass() {
      if (views[0] === this) return null;
      try {
        return (await views[0].answer).predictions[0].label;
      } catch {
        return null;
      }
    }

    showProblem(message, retrying = false) {
      const problem = this.part(".problem");
      problem.querySelector("p").textContent = message;
      problem.querySelector("button").hidden = retrying;
      problem.hidden = false;
    }

    hideExplanation(message, offered) {
      this.explanation = null;
      this.part(".why").hidden = this.part(".strongest").hidden = true;
      this.part(".unexplained").hidden = !message;
      if (!message) return;
      this.part(".unexplained p").textContent = message;
      this.part(".unexplained button").hidden = !offered;
    }

    // -- The label and the classes

    showPrediction(prediction) {
      this.prediction = prediction;
      const { label, labels, probabilities } = prediction;
      const several = this.run.thresholds !== null;
      const heading = this.part(".label");
      const chance = this.part(".chance");
      heading.replaceChildren(...labels.flatMap((name, i) => [...(i ? [", "] : []), isolated(name)]));
      if (!labels.length) heading.textContent = "no label";
      heading.classList.toggle("several", labels.length > 1);
      chance.textContent = several ? "" : percent(probabilities[label]);
      chance.hidden = several;
      const { classes, thresholds } = this.run;
      const rows = classes
        .map((name, i) => ({
          name,
          share: probabilities[name],
          threshold: thresholds?.[i],
          predicted: labels.includes(name),
        }))
        .sort((one, other) => other.share - one.share);
      showClasses(this.part(".prediction .classes"), rows, percent);
    }

    spoken() {
      if (!this.prediction) return "";
      const { label, labels, probabilities } = this.prediction;
      const found = this.run.thresholds
        ? labels.join(", ") || "no label"
        : `${label}, ${percent(probabilities[label])}`;
      return views.length > 1 ? `${this.run.name}: ${found}` : found;
    }

    // -- Words

    showExplanation(answer) {
      this.explanation = answer;
      this.target = this.run.classes.indexOf(answer.explained);
      this.words = answer.words.filter((word) => word.read);
      this.tokens = answer.prefix_probabilities.length;
      this.most = greatest(this.words.map((word) => word.attribution)) || 1;
      this.digits = limited(1 - Math.floor(Math.log10(this.most)), 2, 6);
      this.cursor = -1;
      this.showPrediction(answer);
      const choice = this.part(".target");
      const indices = this.run.classes.map((_, i) => String(i));
      const automatic = views[0] === this ? "the most probable" : `as ${shorten(views[0].run.name, 30)}`;
      setOptions(choice, ["", ...indices], [automatic, ...this.run.classes.map((name) => shorten(name, 40))]);
      choice.value = this.run.classes.includes(chosenClass) ? String(this.target) : "";
      this.part(".unexplained").hidden = true;
      this.part(".why").hidden = false;
      this.showGateChoice();
      this.draw();
      this.scrollTo(this.spans[0], 0); // past words that were not read
    }

    // Draw everything whose colours depend on the scheme.
    draw() {
      if (!this.explanation) return;
      this.showWords();
      this.showStrongest();
      this.showNotes();
      this.showTable();
      this.showGates();
      this.drawCharts();
    }

    showWords() {
      const name = isolated(shorten(this.explanation.explained, 40));
      this.part(".against").replaceChildren(signed(-this.most, this.digits), " against ", name);
      this.part(".for").replaceChildren(signed(this.most, this.digits), " for ", name.cloneNode(true));
      fillRamp(this.part(".words .ramp"), (share) => diverging(2 * share - 1));
      const text = this.part(".text");
      text.dir = isRightToLeft(this.text) ? "rtl" : "ltr";
      let read = 0;
      this.spans = [];
      text.replaceChildren(
        ...this.explanation.words.flatMap((word) => {
          const span = make(
            "span",
            { class: word.read ? (word.known ? "" : "unknown") : "truncated" },
            isolated(word.text),
          );
          if (word.read) {
            this.paint(span, diverging(word.attribution / this.most));
            span.dataset.word = read++;
            this.spans.push(span);
          }
          return [span, " "];
        }),
      );
    }

    // The words with the greatest attributions, for and against, once each.
    showStrongest() {
      const sums = new Map();
      for (const { text, attribution } of this.words) sums.set(text, (sums.get(text) ?? 0) + attribution);
      const listed = (sign) =>
        Array.from(sums)
          .filter(([, sum]) => sign * sum > 0.05 * this.most)
          .sort((one, other) => sign * (other[1] - one[1]))
          .slice(0, MAX_STRONGEST)
          .map(([text, sum]) => {
            const chip = make("span", { class: "chip" }, isolated(text));
            this.paint(chip, diverging(sum / this.most));
            return make("li", {}, chip, make("span", { class: "share", text: signed(sum, this.digits) }));
          });
      const place = this.part(".strongest");
      place.hidden = false;
      for (const [list, sign] of [
        [".most-for", 1],
        [".most-against", -1],
      ]) {
        const items = listed(sign);
        place.querySelector(list).replaceChildren(...items);
        place.querySelector(list).parentElement.hidden = !items.length;
      }
      for (const name of place.querySelectorAll("h3 bdi")) {
        name.textContent = shorten(this.explanation.explained, 30);
      }
    }

    paint(word, colour) {
      word.style.setProperty("--back", css(colour));
      word.style.setProperty("--front", inkOn(colour));
    }

    showNotes() {
      const { words, completeness } = this.explanation;
      const unknown = this.words.filter((word) => !word.known).length;
      const unread = words.length - this.words.length;
      const error = completeness.relative_error;
      const notes = [
        unknown &&
          `Dotted frame: ${counted(unknown, "word")} of ${this.words.length} not in the vocabulary, read as <unk>.`,
        unread &&
          `Struck out: ${counted(unread, "word")} not read. The model reads ${counted(this.tokens, "token")}.`,
        isLower(words) && this.text !== this.text.toLowerCase() && "The model reads the text in lower case.",
        isRightToLeft(this.text) && "The text runs from right to left, the charts from left to right.",
        error >= MAX_ERROR &&
          `The attributions are approximate: their completeness error is ${percent(error)}.`,
      ].filter(Boolean);
      this.part(".notes").replaceChildren(...notes.map((note) => make("li", { text: note })));
    }

    showTable() {
      const details = this.part(".values");
      if (!details.open || !this.explanation) return;
      const lines = this.lines();
      const gate = this.gate;
      const head = [
        "",
        "word",
        "attribution",
        ...lines.map((i) => this.run.classes[i]),
        `${gate.name}, mean`,
      ];
      const body = this.words.map((word, i) => [
        String(i + 1),
        word.text,
        signed(word.attribution, this.digits),
        ...lines.map((one) => percent(word.probabilities[one])),
        gate.mean[this.step(word)].toFixed(3),
      ]);
      const caption = `Attribution for ${this.explanation.explained}, and probabilities after each word`;
      fillTable(details.querySelector("table"), head, body, caption, (column) => column !== 1);
    }

    // The classes in the chart, the explained one first.
    lines() {
      const { classes, thresholds } = this.run;
      const last = this.explanation.prefix_probabilities[this.tokens - 1];
      if (classes.length === 2 && thresholds === null) return [this.target];
      const others = classes
        .map((_, i) => i)
        .filter((i) => i !== this.target)
        .sort((one, other) => last[other] - last[one]);
      return [this.target, ...others].slice(0, MAX_LINES);
    }

    // -- Charts: a column per token at the same place in all of them

    x(token) {
      return CHART.left + ((token + 0.5) / this.tokens) * (this.width - CHART.left - CHART.right);
    }

    middle(word) {
      return this.x((word.start + word.stop - 1) / 2);
    }

    drawCharts() {
      const width = this.part(".words .plot").clientWidth;
      if (!this.explanation || !width) return;
      this.width = width;
      this.drawPrediction();
      this.drawGate();
      this.point(this.cursor, false);
    }

    // Probabilities above, attributions below.
    drawPrediction() {
      const { left, right, top, probability, gap, attribution } = CHART;
      const end = this.width - right;
      const column = (end - left) / this.tokens;
      const isLabelled = column >= 15;
      const zero = top + probability + gap + attribution / 2;
      const bottom = zero + attribution / 2;
      const height = bottom + (isLabelled ? 72 : 20);
      const chart = drawn("svg", { height, viewBox: `0 0 ${this.width} ${height}`, "aria-hidden": "true" });
      const lines = this.lines();
      this.drawProbabilities(chart, lines, column, end);
      this.drawAttributions(chart, column, zero, end);
      if (isLabelled) {
        for (const word of this.words) {
          const x = this.middle(word) + 4;
          const y = bottom + 12;
          const name = label(x, y, shorten(word.text, 9), "end");
          name.classList.add("word");
          name.setAttribute("transform", `rotate(-90 ${x} ${y})`);
          chart.append(name);
        }
      } else {
        chart.append(label(left, bottom + 16, "first word"), label(end, bottom + 16, "last word", "end"));
      }
      chart.append(path("cursor", ""));
      this.cursorEnds = [top, bottom];
      this.part(".words .plot").replaceChildren(chart);
      const key = this.part("ul.key");
      key.replaceChildren(
        ...lines.map((index, order) => make("li", {}, sampleOf(order), isolated(this.run.classes[index]))),
      );
      key.hidden = lines.length === 1;
    }

    drawProbabilities(chart, lines, column, end) {
      const { left, top, probability } = CHART;
      const { explained, prefix_probabilities: after } = this.explanation;
      const y = (share) => top + (1 - share) * probability;
      for (const share of [0, 0.5, 1]) {
        chart.append(
          path("gridline", `M${left} ${y(share)}H${end}`),
          label(left - 6, y(share) + 4, `${100 * share} %`, "end"),
        );
      }
      const of = lines.length === 1 ? `of ${shorten(explained, 24)} ` : "";
      chart.append(label(left, 12, `probability ${of}after each word`));
      const threshold = this.run.thresholds?.[this.target] ?? (lines.length === 1 ? 0.5 : null);
      if (threshold !== null) chart.append(path("threshold", `M${left} ${y(threshold)}H${end}`));
      for (const [order, index] of [...lines.entries()].reverse()) {
        const points = after.map((shares, token) => [this.x(token), y(shares[index])]);
        const group = drawn("g", { class: `c${order}` });
        group.append(path("line", through(points)));
        if (column > 9) group.append(...points.map(([cx, cy]) => drawn("circle", { cx, cy, r: 2.6 })));
        chart.append(group);
      }
    }

    drawAttributions(chart, column, zero, end) {
      const { left, attribution } = CHART;
      const half = attribution / 2;
      const digits = Math.min(this.digits, 3);
      chart.append(
        label(
          left,
          zero - half - 8,
          `attribution: for or against ${shorten(this.explanation.explained, 24)}`,
        ),
        label(left - 6, zero - half + 4, signed(this.most, digits), "end"),
        label(left - 6, zero + half + 4, signed(-this.most, digits), "end"),
      );
      for (const word of this.words) {
        const isFor = word.attribution > 0;
        const height = (Math.abs(word.attribution) / this.most) * half;
        const width = (word.stop - word.start) * column * (column > 6 ? 0.72 : 1);
        const x = this.middle(word) - width / 2;
        const y = isFor ? zero - height : zero;
        chart.append(drawn("rect", { class: isFor ? "up" : "down", x, y, width, height }));
      }
      chart.append(path("zero", `M${left} ${zero}H${end}`));
    }

    // -- Gates

    showGateChoice() {
      const layers = new Map(this.explanation.gates.map((gate) => [layerOf(gate), gate]));
      const several = new Set(this.explanation.gates.map((gate) => gate.layer)).size > 1;
      const names = Array.from(layers.values(), ({ layer, backward }) => {
        const reading = backward ? "right to left" : "left to right";
        return several ? `${layer + 1}, ${reading}` : reading;
      });
      setOptions(this.part(".layers select"), Array.from(layers.keys()), names);
      this.part(".layers span").textContent = several ? "Layer" : "Direction";
      this.part(".layers").hidden = layers.size < 2;
      const gates = this.explanation.gates.filter(
        (gate) => layerOf(gate) === layerOf(this.explanation.gates[0]),
      );
      const chosen = this.gate?.key ?? gates[0].key;
      const group = `gate-${views.indexOf(this)}`;
      this.part(".segments").replaceChildren(
        this.part(".segments legend"),
        ...gates.map((gate) => {
          const radio = make("input", { type: "radio", name: group, value: gate.key });
          radio.checked = gate.key === chosen;
          radio.addEventListener("change", () => this.showGates());
          return make("label", {}, radio, gate.name);
        }),
      );
    }

    showGates() {
      const layer = this.part(".layers select").value;
      const key = this.part(".segments input:checked")?.value;
      const gates = this.explanation.gates.filter((gate) => layerOf(gate) === layer);
      this.gate = gates.find((gate) => gate.key === key) ?? gates[0];
      const { kind, ends, values, units, backward } = this.gate;
      const isGate = kind === "gate";
      this.bound = isGate ? 1 : greatest(values?.flat() ?? [...this.gate.low, ...this.gate.high]) || 1;
      const end = this.bound.toPrecision(2);
      this.part(".low").textContent = isGate ? `0 ${ends[0]}` : `−${end}`;
      this.part(".high").textContent = isGate ? `1 ${ends[1]}` : `+${end}`;
      fillRamp(this.part(".gates .ramp"), (share) => (isGate ? viridis(share) : diverging(2 * share - 1)));
      this.part(".heat").hidden = values === null;
      if (values) {
        const memory = gates.find((gate) => gate.kind === "state") ?? this.gate;
        paintHeat(this.part("canvas"), values, unitOrder(memory.values), (value) =>
          isGate ? viridis(value) : diverging(value / this.bound),
        );
      }
      const direction = backward ? " This direction reads from the last word to the first." : "";
      this.part(".gates > .small").textContent =
        "The line is the mean of all units, the band 80 % of them. " +
        (values
          ? `Below it, a row is one of ${counted(units.length, "unit")}; units that change alike are side by side.`
          : "") +
        direction;
      this.drawGate();
      this.showTable();
      this.point(this.cursor, false);
    }

    drawGate() {
      if (!this.width) return;
      const { curve: height, left, right } = CHART;
      const { kind, mean, low, high } = this.gate;
      const isGate = kind === "gate";
      const top = 8;
      const bottom = height - 6;
      const bound = isGate ? 1 : greatest([...low, ...high]) || 1;
      const end = bound.toPrecision(2);
      const y = (value) => bottom - (isGate ? value : (value / bound + 1) / 2) * (bottom - top);
      const chart = drawn("svg", { height, viewBox: `0 0 ${this.width} ${height}`, "aria-hidden": "true" });
      const ticks = isGate
        ? [
            [0, "0"],
            [0.5, "0.5"],
            [1, "1"],
          ]
        : [
            [-bound, `−${end}`],
            [0, "0"],
            [bound, `+${end}`],
          ];
      for (const [value, name] of ticks) {
        chart.append(
          path("gridline", `M${left} ${y(value)}H${this.width - right}`),
          label(left - 6, y(value) + 4, name, "end"),
        );
      }
      const points = (values) => values.map((value, token) => [this.x(token), y(value)]);
      chart.append(
        path("band c0", through([...points(high), ...points(low).reverse()]) + "Z"),
        path("line c0", through(points(mean))),
        path("cursor", ""),
      );
      this.part(".curve").replaceChildren(chart);
    }

    // The token after which a direction has read the word.
    step(word) {
      return this.gate.backward ? word.start : word.stop - 1;
    }

    // -- The cursor: one word, in the text and in all charts

    listen(plot) {
      const pointed = (event) => {
        if (!this.explanation) return;
        const box = plot.getBoundingClientRect();
        const inner = box.width - CHART.left - CHART.right;
        const token = Math.floor(((event.clientX - box.left - CHART.left) / inner) * this.tokens);
        this.point(this.words.findIndex((word) => limited(token, 0, this.tokens - 1) < word.stop));
      };
      plot.addEventListener("pointermove", pointed);
      plot.addEventListener("pointerdown", pointed);
      plot.addEventListener("keydown", (event) => {
        const last = this.words.length - 1;
        const moves = {
          ArrowRight: this.cursor + 1,
          ArrowUp: this.cursor + 1,
          ArrowLeft: this.cursor - 1,
          ArrowDown: this.cursor - 1,
          PageUp: this.cursor + 10,
          PageDown: this.cursor - 10,
          Home: 0,
          End: last,
        };
        if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
        event.preventDefault();
        this.point(limited(moves[event.key], 0, last));
      });
      plot.addEventListener("focus", () => this.point(Math.max(0, this.cursor)));
    }

    point(index, shared = true) {
      if (!this.explanation) return;
      this.spans[this.cursor]?.classList.remove("pointed");
      this.cursor = index;
      const word = this.words[index];
      const readouts = this.root.querySelectorAll(".readout");
      const cursors = this.root.querySelectorAll("path.cursor");
      const hint = "Point at a word, or use the arrow keys on a chart, to read its values.";
      for (const plot of this.root.querySelectorAll(".plot")) {
        plot.setAttribute("aria-valuemin", 1);
        plot.setAttribute("aria-valuemax", this.words.length);
        plot.setAttribute("aria-valuenow", Math.max(1, index + 1));
        plot.setAttribute("aria-valuetext", word ? "" : hint);
      }
      this.part(".heat .cursor").hidden = !word;
      if (!word) {
        for (const cursor of cursors) cursor.setAttribute("d", "");
        for (const readout of readouts) readout.textContent = "";
        readouts[0].append(make("span", { class: "small", text: hint }));
        const { name, mean } = this.gate;
        const average = mean.reduce((sum, value) => sum + value, 0) / mean.length;
        readouts[1].textContent = `${name}: ${average.toFixed(2)} on average`;
        return;
      }
      const span = this.spans[index];
      span.classList.add("pointed");
      this.scrollTo(span, 0.5);
      const x = this.middle(word);
      cursors[0].setAttribute("d", `M${x} ${this.cursorEnds[0]}V${this.cursorEnds[1]}`);
      const step = this.step(word);
      const xStep = this.x(step);
      cursors[1].setAttribute("d", `M${xStep} 4V${CHART.curve - 4}`);
      const mark = this.part(".heat .cursor");
      mark.style.setProperty("--left", `${(100 * step) / this.tokens}%`);
      mark.style.setProperty("--width", `${Math.max(100 / this.tokens, 0.5)}%`);
      this.readOut(readouts, word, index, step);
      if (!shared) return;
      for (const other of views) {
        const hasWord = other !== this && other.explanation && other.words[index]?.text === word.text;
        if (hasWord) other.point(index, false);
      }
    }

    // Scroll the text, not the page, to a word that is out of sight: to a share of the height.
    scrollTo(span, share) {
      const box = span.parentElement;
      const top = span.offsetTop - box.offsetTop;
      if (top < box.scrollTop || top + span.offsetHeight > box.scrollTop + box.clientHeight) {
        box.scrollTop = top - share * box.clientHeight;
      }
    }

    readOut(readouts, word, index, step) {
      const { name, mean, low, high } = this.gate;
      const place = ` (${index + 1} of ${this.words.length})`;
      const shares = this.lines().map(
        (i) => `${shorten(this.run.classes[i], 30)} ${percent(word.probabilities[i])}`,
      );
      const values = [
        `${place}: attribution ${signed(word.attribution, this.digits)}; after it ${shares.join(", ")}`,
        `: ${name} ${mean[step].toFixed(2)} on average; 80 % of units: ${low[step].toFixed(2)} to ${high[step].toFixed(2)}`,
      ];
      const plots = this.root.querySelectorAll(".plot");
      for (const [i, readout] of readouts.entries()) {
        const shown = make("b", {}, isolated(word.text));
        readout.replaceChildren(...(i ? ["after "] : []), shown, values[i]);
        plots[i].setAttribute("aria-valuetext", word.text + values[i]);
      }
    }

    remove() {
      this.observer.disconnect();
      this.root.remove();
    }
  }

  function sampleOf(order) {
    const sample = drawn("svg", { width: 26, height: 8, "aria-hidden": "true" });
    const line = drawn("g", { class: `c${order}` });
    line.append(path("line", "M1 4H25"));
    sample.append(line);
    return sample;
  }

  const layerOf = (gate) => `${gate.layer}${gate.backward ? "b" : "f"}`;
  const isLower = (words) => words.every((word) => word.text === word.text.toLowerCase());

  // Whether most letters are of scripts such as Arabic and Hebrew: dir="auto" looks at the first one only.
  function isRightToLeft(text) {
    const count = (pattern) => (text.match(pattern) ?? []).length;
    const right = count(/[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/g);
    return right > count(/\p{L}/gu) - right;
  }

  // Rows of a bar each: {name, share, predicted, threshold}, the most probable first.
  function showClasses(place, rows, format, all = false) {
    const shown = all ? rows : rows.slice(0, MAX_CLASSES);
    place.replaceChildren(
      ...shown.map(({ name, share, count, predicted, threshold }) => {
        const meter = make("div", { class: "meter", "aria-hidden": "true" }, make("i"));
        meter.style.setProperty("--share", `${(100 * share).toFixed(2)}%`);
        const value = make("span", { class: "share", text: format(share, count) });
        if (threshold !== undefined) {
          meter.append(make("b"));
          meter.style.setProperty("--threshold", `${100 * threshold}%`);
          value.append(
            make("span", { class: "small", text: ` ${predicted ? "≥" : "<"} ${percent(threshold)}` }),
          );
        }
        return make(
          "div",
          { class: predicted ? "class predicted" : "class" },
          make("span", { class: "name" }, isolated(name)),
          value,
          meter,
        );
      }),
    );
    if (shown.length === rows.length) return;
    const more = make("button", { type: "button", class: "more", text: `Show all ${rows.length}` });
    more.addEventListener("click", () => showClasses(place, rows, format, true));
    place.append(more);
  }

  function fillTable(table, head, body, caption, isNumber) {
    const cell = (tag, text, column, more) =>
      make(tag, { class: isNumber(column) ? "n" : "", ...more }, isolated(text));
    const heading = make("tr", {}, ...head.map((name, i) => cell("th", name, i, { scope: "col" })));
    const rows = body.map((row) => make("tr", {}, ...row.map((value, i) => cell("td", value, i, {}))));
    table.replaceChildren(
      ...(caption ? [make("caption", { text: caption })] : []),
      make("thead", {}, heading),
      make("tbody", {}, ...rows),
    );
  }

  // Units sorted by their weight in the first principal component of `memory` [time][units] over
  // time, by power iteration: those that rise together are side by side.
  function unitOrder(memory) {
    const units = memory[0].length;
    const means = memory[0].map((_, unit) => memory.reduce((sum, row) => sum + row[unit], 0) / memory.length);
    const centred = memory.map((row) => row.map((value, unit) => value - means[unit]));
    let weights = centred.at(-1).map((value, unit) => value || 1e-3 * (unit + 1));
    for (let round = 0; round < 30; round++) {
      const next = new Array(units).fill(0);
      for (const row of centred) {
        const along = row.reduce((sum, value, unit) => sum + value * weights[unit], 0);
        row.forEach((value, unit) => {
          next[unit] += along * value;
        });
      }
      const length = Math.hypot(...next);
      if (!length) break;
      weights = next.map((value) => value / length);
    }
    return weights.map((_, unit) => unit).sort((one, other) => weights[other] - weights[one]);
  }

  // A pixel per token and unit; CSS stretches them.
  function paintHeat(canvas, values, order, colourOf) {
    canvas.width = values.length;
    canvas.height = order.length;
    const context = canvas.getContext("2d");
    const image = context.createImageData(values.length, order.length);
    order.forEach((unit, row) =>
      values.forEach((one, token) => {
        image.data.set([...colourOf(one[unit]), 255], 4 * (row * values.length + token));
      }),
    );
    context.putImageData(image, 0, 0);
  }

  // ---- The text ----

  // Classify the text that is there; `asked`: by the button or Ctrl+Enter, not while typing.
  async function update(asked) {
    clearTimeout(timer);
    controller.abort();
    controller = new AbortController();
    const { signal } = controller;
    const text = input.value;
    const length = Array.from(text).length;
    const most = service.limits.max_text_length;
    byId("length").textContent = length
      ? `${length.toLocaleString("en")} of ${most.toLocaleString("en")} characters`
      : "";
    const isEmpty = !text.trim();
    const isLong = length > most;
    byId("empty").hidden = !isEmpty;
    byId("results").hidden = isEmpty || isLong;
    const problem = byId("text-problem");
    problem.hidden = !isLong;
    if (isLong) {
      const shown = length.toLocaleString("en");
      problem.textContent = `The text has ${shown} characters. The service accepts ${most.toLocaleString("en")}.`;
    }
    if (isEmpty || isLong) {
      byId("comparison").hidden = true;
      return;
    }
    await Promise.all(views.map((view) => view.update(text, asked, signal)));
    if (signal.aborted) return;
    compare();
    byId("announcement").textContent = views
      .map((view) => view.spoken())
      .filter(Boolean)
      .join("; ");
  }

  function compare() {
    const place = byId("comparison");
    const found = views.map((view) => view.prediction);
    place.hidden = views.length < 2 || found.includes(null);
    if (place.hidden) return;
    const [one, other] = found;
    const labels = found.map((each) => each.labels.join(", ") || "no label");
    const [first, second] = views.map((view) => view.run.name);
    const haveSame = views.every((view) =>
      view.run.classes.every((name) => name in one.probabilities && name in other.probabilities),
    );
    place.classList.toggle("warning", haveSame && labels[0] !== labels[1]);
    if (!haveSame) {
      place.textContent = "The models have different classes.";
    } else if (labels[0] !== labels[1]) {
      place.replaceChildren(
        make("b", { text: "The models disagree. " }),
        isolated(first),
        ": ",
        isolated(labels[0]),
        "; ",
        isolated(second),
        ": ",
        isolated(labels[1]),
        ".",
      );
    } else {
      const points = Math.abs(one.probabilities[one.label] - (other.probabilities[one.label] ?? 0)) * 100;
      place.replaceChildren(
        make("b", { text: "Both models agree: " }),
        isolated(labels[0]),
        `. Their probabilities differ by ${points.toFixed(1)} points.`,
      );
    }
  }

  function listenToText() {
    input.addEventListener("input", () => {
      clearTimeout(timer);
      controller.abort();
      timer = setTimeout(() => update(false), input.value.trim() ? LIVE_DELAY : 0);
    });
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      update(true);
    });
    byId("classify").addEventListener("click", () => {
      if (!input.value.trim()) input.focus();
      update(true);
    });
    byId("clear").addEventListener("click", () => {
      input.value = "";
      update(false);
      input.focus();
    });
  }

  function showExamples() {
    const run = service.runs.find((one) => one.name === runChoice.value);
    const isFilm = run.classes.some((name) => /^(neg|pos)(ative|itive)?$/i.test(name));
    byId("examples").replaceChildren(
      ...(isFilm ? FILM_EXAMPLES : OTHER_EXAMPLES).map(([name, text]) => {
        const button = make("button", { type: "button", text: name, title: text });
        button.addEventListener("click", () => {
          input.value = text;
          update(true);
        });
        return make("li", {}, button);
      }),
    );
  }

  // ---- Runs ----

  function showRuns() {
    const names = service.runs.map((run) => run.name);
    setOptions(runChoice, names);
    byId("models").hidden = names.length < 2;
    document.title = `${names.join(", ")} · RNN Lab`;
    byId("title").textContent =
      names.length < 2 ? [names[0], service.runs[0].description].filter(Boolean).join(" · ") : "";
    showViews();
  }

  function showViews() {
    const others = service.runs.map((run) => run.name).filter((name) => name !== runChoice.value);
    setOptions(compareChoice, ["", ...others], ["no other", ...others]);
    showExamples();
    for (const view of views) view.remove();
    const chosen = [runChoice.value, compareChoice.value].filter((name) => name !== "");
    views = chosen.map((name) => new View(service.runs.find((run) => run.name === name)));
    byId("results").replaceChildren(...views.map((view) => view.root));
    byId("results").classList.toggle("two", views.length > 1);
    update(true);
  }

  function listenToChoices() {
    runChoice.addEventListener("change", showViews);
    compareChoice.addEventListener("change", showViews);
    darkScheme.addEventListener("change", () => views.forEach((view) => view.draw()));
    const tabs = [byId("text-tab"), byId("file-tab")];
    for (const tab of tabs) {
      tab.addEventListener("click", () => openTab(tab));
      tab.addEventListener("keydown", (event) => {
        const move = { ArrowRight: 1, ArrowLeft: 1, Home: -tabs.indexOf(tab), End: 1 - tabs.indexOf(tab) }[
          event.key
        ];
        if (move === undefined) return;
        event.preventDefault();
        const next = tabs[(tabs.indexOf(tab) + move) % tabs.length];
        openTab(next);
        next.focus();
      });
    }
  }

  function openTab(chosen) {
    for (const tab of [byId("text-tab"), byId("file-tab")]) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !isChosen;
    }
    byId("compare-choice").hidden = chosen.id === "file-tab";
  }

  // ---- A file ----

  const FORMATS = { csv: "csv", tsv: "tsv", tab: "tsv", jsonl: "jsonl", ndjson: "jsonl", txt: "txt" };
  let file = null;
  let labelling = new AbortController();
  let saved = "";

  // Reads a CSV piece by piece (RFC 4180).
  class CsvReader {
    constructor(separator = ",") {
      this.separator = separator;
      this.row = [];
      this.cell = "";
      this.quoted = this.closing = false;
    }

    // Return the rows that `text` completes.
    read(text) {
      const rows = [];
      for (const letter of text) {
        if (this.quoted && !this.closing) {
          if (letter === '"') this.closing = true;
          else this.cell += letter;
        } else if (letter === '"' && (this.closing || this.cell === "")) {
          if (this.closing) this.cell += '"';
          this.quoted = true;
          this.closing = false;
        } else if (letter === this.separator) {
          this.endCell();
        } else if (letter === "\n") {
          this.endCell();
          rows.push(this.row);
          this.row = [];
        } else if (letter !== "\r") {
          this.cell += letter;
        }
      }
      return rows;
    }

    endCell() {
      this.row.push(this.cell);
      this.cell = "";
      this.quoted = this.closing = false;
    }
  }

  const isTable = (format) => format === "csv" || format === "tsv";

  // Return the rows of a file as they are counted here; the first one of a table is its header.
  function readRows(text, format) {
    const whole = text.endsWith("\n") ? text : text + "\n";
    if (!isTable(format)) {
      const lines = whole.split("\n").filter((line) => line.trim());
      return lines.map((line) => [line]);
    }
    const header = whole.slice(0, whole.indexOf("\n"));
    const separator = format === "tsv" ? "\t" : header.includes(",") || !header.includes(";") ? "," : ";";
    return new CsvReader(separator)
      .read(whole.replace(/^\ufeff/, ""))
      .filter((row) => row.some((cell) => cell !== ""));
  }

  function fileColumns(rows, format) {
    if (isTable(format)) return rows[0] ?? [];
    if (format !== "jsonl") return [];
    try {
      return Object.keys(JSON.parse(rows[0][0]));
    } catch {
      return [];
    }
  }

  function showFileProblem(message) {
    byId("file-problem").textContent = message;
    byId("file-problem").hidden = !message;
  }

  async function openFile(chosen) {
    labelling.abort();
    file = null;
    byId("file-result").hidden = byId("column-choice").hidden = byId("file-progress").hidden = true;
    showFileProblem("");
    const format = FORMATS[chosen.name.split(".").at(-1).toLowerCase()];
    const most = service.limits.max_body_bytes;
    if (!format) {
      return showFileProblem(
        `${chosen.name}: the format is unknown. Choose a file that ends in .csv, .tsv, .jsonl or .txt.`,
      );
    }
    if (chosen.size > most) {
      return showFileProblem(
        `${chosen.name} has ${megabytes(chosen.size)}. The service accepts ${megabytes(most)}. ` +
          "For larger files: rnn-lab predict run=<run> input=<file> output=<file>.",
      );
    }
    let rows;
    try {
      rows = readRows(await chosen.text(), format);
    } catch {
      return showFileProblem(`${chosen.name} cannot be read. Is it a folder, or was it moved?`);
    }
    if (!rows.length) return showFileProblem(`${chosen.name} is empty.`);
    file = { content: chosen, name: chosen.name, format, total: rows.length - (isTable(format) ? 1 : 0) };
    const columns = fileColumns(rows, format);
    byId("column").replaceChildren(
      ...["", ...columns].map((name, i) =>
        make("option", { value: name, text: i ? shorten(name, 60) : "found by its name" }),
      ),
    );
    byId("column-choice").hidden = columns.length < 2;
    await labelFile();
  }

  async function labelFile() {
    if (!file) return;
    labelling.abort();
    labelling = new AbortController();
    const { signal } = labelling;
    const run = service.runs.find((one) => one.name === runChoice.value);
    const query = new URLSearchParams({ run: run.name, format: file.format });
    if (byId("column").value) query.set("text_column", byId("column").value);
    showFileProblem("");
    byId("file-result").hidden = true;
    byId("file-progress").hidden = false;
    const found = { header: null, preview: [], counts: new Map(), rows: 0, failed: 0, pieces: [] };
    showProgress(0);
    try {
      const type = {
        csv: "text/csv",
        tsv: "text/tab-separated-values",
        jsonl: "application/x-ndjson",
        txt: "text/plain",
      }[file.format];
      const options = { method: "POST", headers: { "Content-Type": type }, body: file.content, signal };
      const answer = await request(`predict_file?${query}`, options, (message) => {
        byId("file-state").textContent = message;
      });
      await readAnswer(answer, found, run);
      showLabelled(found, run);
    } catch (error) {
      if (error.name === "AbortError") return;
      const middle = found.rows && !(error instanceof ServiceError);
      const hint =
        error.status === 422 && byId("column").options.length > 2 ? " Choose the column of the texts." : "";
      showFileProblem(
        middle
          ? `The service stopped in the middle, after ${counted(found.rows, "row")}. Nothing is saved.`
          : explainError(error) + hint,
      );
    }
    if (!signal.aborted) byId("file-progress").hidden = true;
  }

  async function readAnswer(answer, found, run) {
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    const csv = new CsvReader();
    for (;;) {
      const { done, value } = await reader.read();
      const text = done ? decoder.decode() : decoder.decode(value, { stream: true });
      for (const row of csv.read(text)) {
        if (found.header === null) found.header = row;
        else countRow(row, found, run);
      }
      if (done) return;
      found.pieces.push(value);
      showProgress(found.rows);
    }
  }

  function countRow(row, found, run) {
    const { header, counts, preview } = found;
    // The last of that name: the file may have one too. Probabilities follow it.
    const at = header.lastIndexOf(run.thresholds ? "labels" : "label");
    const isAtLeast = (share, threshold) => Math.fround(Number(share)) >= Math.fround(threshold);
    found.rows++;
    if (row.at(-1) !== "") {
      found.failed++; // the last column is the error
    } else {
      const labels = run.thresholds
        ? run.classes.filter((_, i) => isAtLeast(row[at + 1 + i], run.thresholds[i]))
        : [row[at]];
      for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
    }
    if (preview.length < PREVIEW_ROWS) preview.push(row);
  }

  function showProgress(done) {
    const bar = byId("file-done");
    if (done) {
      bar.max = Math.max(file.total, done);
      bar.value = done;
    } else {
      bar.removeAttribute("value");
    }
    byId("file-state").textContent =
      `${shorten(file.name, 60)}: ${done.toLocaleString("en")} of ${counted(file.total, "row")} labelled`;
  }

  function showLabelled(found, run) {
    URL.revokeObjectURL(saved);
    saved = URL.createObjectURL(new Blob(found.pieces, { type: "text/csv" }));
    const link = byId("save");
    const place = byId("file-result");
    const done = found.rows - found.failed;
    link.href = saved;
    link.download = file.name.replace(/\.[^.]*$/, "") + ".predictions.csv";
    link.textContent = `Save ${shorten(link.download, 50)}`;
    place.querySelector("h2").textContent = `${counted(done, "text")} labelled by ${run.name}`;
    const rows = Array.from(found.counts, ([name, count]) => ({
      name,
      count,
      share: count / Math.max(1, done),
      predicted: true,
    })).sort((one, other) => other.count - one.count);
    showClasses(
      place.querySelector(".classes"),
      rows,
      (share, count) => `${count.toLocaleString("en")} · ${percentOfAll(share)}`,
    );
    const errors = place.querySelector(".errors");
    errors.hidden = !found.failed;
    errors.textContent = `${counted(found.failed, "row")} could not be labelled. The column "error" says why.`;
    const isProbability = (column) => found.header[column].startsWith("probability_");
    const cells = found.preview.map((row) =>
      row.map((cell, i) => (isProbability(i) && cell !== "" ? Number(cell).toFixed(4) : shorten(cell, 120))),
    );
    fillTable(place.querySelector("table"), found.header, cells, "", isProbability);
    place.hidden = false;
    byId("announcement").textContent = `${counted(done, "text")} labelled. The result can be saved.`;
  }

  const percentOfAll = (share) => (100 * share).toFixed(1) + " %";

  function listenToFiles() {
    const chooser = byId("file");
    chooser.addEventListener("change", () => {
      if (chooser.files.length) openFile(chooser.files[0]);
      chooser.value = ""; // or the same file could not be chosen again
    });
    byId("again").addEventListener("click", labelFile);
    byId("cancel").addEventListener("click", () => {
      labelling.abort();
      byId("file-progress").hidden = true;
      byId("announcement").textContent = "Cancelled.";
    });
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      openTab(byId("file-tab"));
      document.body.classList.add("dragging");
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) document.body.classList.remove("dragging");
    });
    document.addEventListener("drop", (event) => {
      document.body.classList.remove("dragging");
      if (!hasFiles(event)) return;
      event.preventDefault();
      if (event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
    });
  }

  // ---- Start ----

  async function start() {
    byId("unusable").hidden = true;
    byId("starting").hidden = false;
    try {
      service = await (await request("runs")).json();
      byId("ready").hidden = false;
      byId("file-limit").textContent = `At most ${megabytes(service.limits.max_body_bytes)}.`;
      showRuns();
    } catch (error) {
      const known = error instanceof ServiceError && error.status === 0;
      byId("unusable").hidden = known; // #offline says so
      byId("unusable").querySelector("p").textContent = explainError(error);
    }
    byId("starting").hidden = true;
    document.documentElement.dataset.ready = "yes";
  }

  takeTokenFromAddress();
  listenToText();
  listenToChoices();
  listenToFiles();
  byId("unusable").querySelector("button").addEventListener("click", start);
  start();
})();
