// The panel Test: two cells of a grid laid over each other, and the U of sliders that writes a list of block weights.
(function () {
    "use strict";
    if (window.loraLabTest) return;
    window.loraLabTest = true;
    const TICK = 400; // milliseconds
    let pair = [];

    function picture(source, css) {
        const image = new Image();
        image.src = source;
        image.className = css;
        return image;
    }

    function write(box, value) {
        if (!box) return;
        box.value = value;
        if (typeof updateInput === "function") updateInput(box);
        else box.dispatchEvent(new Event("input", {bubbles: true}));
    }

    function chosen(cell) {
        const one = {source: cell.dataset.cell, label: cell.dataset.label, tag: cell.dataset.tag};
        pair = [...pair.slice(-1), one];
        write(document.querySelector("#lora_lab_test_row :is(textarea, input)"), cell.dataset.row);
        mark();
        draw(cell.closest("#lora_lab_test_grid, body").querySelector(".lora-lab-compare"));
    }

    function mark() {
        const on = new Set(pair.map((one) => one.source));
        for (const cell of document.querySelectorAll(".lora-lab-cell")) cell.classList.toggle("lora-lab-on", on.has(cell.dataset.cell));
    }

    function text(tag, words, css) {
        const element = document.createElement(tag);
        element.textContent = words;
        if (css) element.className = css;
        return element;
    }

    function draw(place) {
        if (!place || !pair.length) return;
        const [under, over] = pair.length > 1 ? pair : [pair[0], pair[0]];
        const frame = text("div", "", "lora-lab-over");
        frame.append(picture(under.source, ""), picture(over.source, "lora-lab-top"));
        const slider = document.createElement("input");
        Object.assign(slider, {type: "range", min: 0, max: 100, value: 50});
        slider.setAttribute("aria-label", "how much of the second picture is uncovered");
        slider.addEventListener("input", () => frame.style.setProperty("--cut", slider.value + "%"));
        const box = document.createElement("input"), label = text("label", "", "lora-lab-small");
        box.type = "checkbox";
        box.addEventListener("change", () => frame.classList.toggle("lora-lab-difference", box.checked));
        label.append(box, text("span", " difference"));
        const copy = text("button", `Copy ${over.tag}`, "lora-lab-small-button");
        copy.type = "button";
        copy.addEventListener("click", () => navigator.clipboard && navigator.clipboard.writeText(over.tag));
        frame.style.setProperty("--cut", "50%");
        const names = text("p", under.label + " | " + over.label, "lora-lab-muted lora-lab-small");
        place.replaceChildren(names, frame, slider, label, copy);
    }

    // Sliders: the text box holds the list; both follow each other.
    const short = (value) => String(Number(Number(value).toPrecision(4)));
    const field = (u) => document.querySelector("#" + u.dataset.field + " :is(textarea, input)");

    function list(u) {
        const sliders = Array.from(u.querySelectorAll("input[type=range]")), found = Array(sliders.length).fill("1");
        for (const slider of sliders) found[Number(slider.dataset.index)] = short(slider.value);
        return found;
    }

    function moved(event) {
        const u = event.target.closest && event.target.closest(".lora-lab-sliders");
        if (!u || event.target.type !== "range") return;
        event.target.nextElementSibling.textContent = short(event.target.value);
        write(field(u), list(u).join(","));
    }

    function follow() {
        for (const u of document.querySelectorAll(".lora-lab-sliders")) {
            const box = field(u);
            if (!box || !u.getClientRects().length) continue;
            const told = box.value.split(",").map(Number), sliders = u.querySelectorAll("input[type=range]");
            if (told.length !== sliders.length || told.some((value) => !isFinite(value))) continue;
            for (const slider of sliders) {
                const value = told[Number(slider.dataset.index)];
                if (slider.matches(":active")) continue;
                slider.value = value;
                slider.nextElementSibling.textContent = short(value);
                slider.parentElement.classList.toggle("lora-lab-off", value === 0);
            }
        }
    }

    document.addEventListener("input", moved);
    document.addEventListener("click", (event) => {
        const cell = event.target.closest && event.target.closest(".lora-lab-cell");
        if (cell) chosen(cell);
    });
    setInterval(() => {
        follow();
        mark();
        const place = document.querySelector("#lora_lab_test_grid .lora-lab-compare");
        if (place && !place.firstChild && pair.length) draw(place); // the poll has drawn the grid anew
    }, TICK);
})();
