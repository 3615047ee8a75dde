// The tab in another language: its texts, tooltips, placeholders and names for screen readers are looked up in the webui's
// dictionary as they come and change. The webui itself looks up whole texts only, as they come, and few tooltips.
// A key may have holes: "{0} of {1*}". {0} is a number, with its unit where it has one, {1*} any text; a translation
// fills them again, in an order of its own.
(function () {
    "use strict";
    if (window.loraLabWords) return;
    const TICK = 500, LONGEST = 600; // milliseconds; letters of a text that may have holes
    const NAMES = ["title", "placeholder", "aria-label"];
    const OWN = "#lora_lab_root :is(code, ul.options, .token, .file-preview, [translate])";
    const HOLES = /\{\d+\*?\}/g, ANY = "([^]+?)";
    const FIGURE = "[-+]?[\\d.,]*\\d(?:e[-+]?\\d+)?%?", UNIT = " (?:s|min|h|MB|GB|steps/s|s/step)";
    const NUMBER = "(" + FIGURE + "(?:" + UNIT + "(?: \\d+ (?:s|min))?)?)";

    // The user's own texts stay as they are: names, tags, captions; views mark them by translate="no".
    function own(element) {
        const nearest = element.closest(OWN);
        return Boolean(nearest) && nearest.getAttribute("translate") !== "yes";
    }

    const literal = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

    // A key with holes, ready to be looked for: `piece` is what a text has to hold in any case, the heaviest key is tried
    // first, and one with numbers before one that takes anything.
    function pattern(key, to) {
        const holes = key.match(HOLES), pieces = key.split(HOLES), open = holes.filter((hole) => hole.endsWith("*}")).length;
        const form = pieces.map((piece, n) => literal(piece) + (n === holes.length ? "" : holes[n].endsWith("*}") ? ANY : NUMBER));
        const piece = pieces.reduce((one, other) => other.length > one.length ? other : one);
        const order = holes.map((hole) => parseInt(hole.slice(1)));
        return {form: new RegExp("^" + form.join("") + "$"), piece, to, order, weight: pieces.join("").length - open / 100};
    }

    // What is not translated, or into itself, needs no look.
    function read(dictionary) {
        const all = Object.entries(dictionary).filter(([key, to]) => typeof to === "string" && to && to !== key);
        const filled = all.filter(([key]) => key.match(HOLES)).map(([key, to]) => pattern(key, to));
        filled.sort((one, other) => other.weight - one.weight);
        return {whole: new Map(all), done: new Set(all.map(([, to]) => to)), filled};
    }

    function translation(words, text) {
        if (words.done.has(text)) return text;
        if (words.whole.has(text)) return words.whole.get(text);
        if (text.length > LONGEST) return text;
        for (const {form, piece, to, order} of words.filled) {
            const found = text.includes(piece) && form.exec(text);
            if (found) return to.replace(HOLES, (hole) => found[order.indexOf(parseInt(hole.slice(1))) + 1] ?? hole);
        }
        return text;
    }

    function follow(root, words) {
        const made = new WeakMap(); // node, or element -> what stands there by our doing

        function text(node) {
            const said = node.data.trim(), parent = node.parentElement;
            if (made.get(node) === node.data || !/[A-Za-z]/.test(said)) return;
            if (!parent || parent.localName === "textarea" || own(parent)) return;
            const to = translation(words, said);
            if (to !== said) node.data = node.data.replace(said, () => to);
            made.set(node, node.data);
        }

        function attribute(element, name) {
            const said = element.getAttribute(name), done = made.get(element) || {};
            if (!said || done[name] === said || own(element)) return;
            const to = translation(words, said.trim());
            made.set(element, {...done, [name]: to === said.trim() ? said : to});
            if (to !== said.trim()) element.setAttribute(name, to);
        }

        function whole(node) {
            if (node.nodeType === Node.TEXT_NODE) text(node);
            if (node.nodeType !== Node.ELEMENT_NODE) return;
            const walk = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
            while (walk.nextNode()) text(walk.currentNode);
            for (const name of NAMES) {
                for (const one of [node, ...node.querySelectorAll("[" + name + "]")]) attribute(one, name);
            }
        }

        new MutationObserver((changes) => {
            for (const change of changes) {
                if (change.type === "childList") change.addedNodes.forEach(whole);
                else if (change.type === "attributes") attribute(change.target, change.attributeName);
                else text(change.target);
            }
        }).observe(root, {subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: NAMES});
        whole(root);
    }

    let words = null, followed = null;
    window.loraLabWords = true;
    setInterval(() => {
        const root = document.getElementById("lora_lab_root");
        if (!root || root === followed || !Object.keys(window.localization || {}).length) return;
        words = words || read(window.localization);
        followed = root;
        follow(root, words);
    }, TICK);
})();
