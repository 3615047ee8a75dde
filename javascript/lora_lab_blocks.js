// The U of sliders in Train: they write down_, mid_ and up_lr_weight (BASE: text_encoder_lr), and follow these fields.
(function () {
    "use strict";
    if (window.loraLabBlocks) return;
    window.loraLabBlocks = true;

    const TICK = 400; // milliseconds
    const FIELDS = {down: "down_lr_weight", mid: "mid_lr_weight", up: "up_lr_weight"};
    const CURVES = {
        sine: (x) => Math.sin(Math.PI / 2 * x), cosine: (x) => Math.sin(Math.PI / 2 * (1 - x)),
        linear: (x) => x, reverse_linear: (x) => 1 - x, zeros: () => 0,
    };
    const holder = () => document.querySelector(".lora-lab-blocks");
    const box = (name) => document.querySelector("#lora_lab_train_" + name + " textarea, #lora_lab_train_" + name + " input");
    const text = (name) => (box(name) ? box(name).value.trim() : "");

    function write(name, value) {
        const field = box(name);
        if (!field || field.value === value) return;
        field.value = value;
        if (typeof updateInput === "function") updateInput(field);
        else field.dispatchEvent(new Event("input", {bubbles: true}));
        field.dispatchEvent(new Event("change", {bubbles: true}));
    }

    // The shape of the loaded checkpoint's family.
    function shape() {
        const all = holder();
        if (!all) return null;
        const answer = document.querySelector("#lora_lab_train_plan [data-family]");
        const family = answer && answer.dataset.family === "sdxl" ? "sdxl" : "sd1";
        all.dataset.family = family;
        return all.querySelector('[data-for="' + family + '"]');
    }

    // A field's text as so many numbers, as the trainer reads it.
    function numbers(told, size) {
        if (!told) return Array(size).fill(1);
        const curve = /^([a-z_]+)(?:\+([\d.eE+-]+))?$/.exec(told);
        if (curve && CURVES[curve[1]]) {
            return Array.from({length: size}, (_, i) => CURVES[curve[1]](size > 1 ? i / (size - 1) : 0) + Number(curve[2] || 0));
        }
        const found = told.split(",").map((piece) => Number(piece || 0));
        return Array.from({length: size}, (_, i) => (i < found.length && isFinite(found[i]) ? found[i] : 1));
    }

    const short = (value) => String(Number(value.toPrecision(3)));

    function rates() {
        const usual = JSON.parse(holder().dataset.rates)[text("optimizer_type")] || [1e-4, 5e-5];
        const all = text("learning_rate"), unet = text("unet_lr"), words = text("text_encoder_lr");
        return [Number(unet || all || usual[0]), Number(words || all || usual[1])];
    }

    function put(slider, value) {
        if (document.activeElement === slider && slider.matches(":active")) return;
        if (Number(slider.value) !== Math.min(value, Number(slider.max))) slider.value = value;
        const told = short(value), output = slider.nextElementSibling;
        if (output.textContent !== told) output.textContent = told;
        slider.parentElement.classList.toggle("lora-lab-off", value === 0);
    }

    function follow() {
        const u = shape();
        if (!u) return;
        const sizes = {down: Number(u.dataset.side), mid: 1, up: Number(u.dataset.side)};
        for (const side of Object.keys(FIELDS)) {
            const all = numbers(text(FIELDS[side]), sizes[side]);
            for (const slider of u.querySelectorAll('[data-side="' + side + '"]')) put(slider, all[Number(slider.dataset.index)]);
        }
        const [unet, words] = rates();
        const base = u.querySelector('[data-side="base"]');
        if (base) put(base, unet ? words / unet : 0);
    }

    function list(side, values) {
        const full = values.every((value) => value === 1);
        write(FIELDS[side], full ? "" : values.map(short).join(","));
    }

    function moved(event) {
        const slider = event.target;
        if (!slider.matches || !slider.matches(".lora-lab-blocks input[type=range]")) return;
        const u = slider.closest(".lora-lab-blocks-shape"), value = Number(slider.value), side = slider.dataset.side;
        slider.nextElementSibling.textContent = short(value);
        slider.parentElement.classList.toggle("lora-lab-off", value === 0);
        if (side === "base") {
            write("text_encoder_lr", short(rates()[0] * value));
        } else if (side === "mid") {
            list("mid", Array(Number(u.dataset.middle)).fill(value));
        } else {
            const all = numbers(text(FIELDS[side]), Number(u.dataset.side));
            all[Number(slider.dataset.index)] = value;
            list(side, all);
        }
    }

    function preset(event) {
        const button = event.target.closest && event.target.closest(".lora-lab-blocks-preset");
        const u = button && shape();
        if (!u) return;
        const side = Number(u.dataset.side), middle = Number(u.dataset.middle), one = (n) => Array.from({length: side}, (_, i) => (i === n ? 1 : 0));
        const row = (value) => Array(side).fill(value), all = {
            all: [row(1), 1, row(1)], in: [row(1), 0, row(0)], mid: [row(0), 1, row(0)], out: [row(0), 0, row(1)],
            style: [row(0.2), 1, row(1)], content: [row(0), 0, one(0)], look: [row(0), 0, one(1)],
        }[button.dataset.preset];
        list("down", all[0]);
        list("mid", Array(middle).fill(all[1]));
        list("up", all[2]);
        follow();
    }

    document.addEventListener("input", moved);
    document.addEventListener("click", preset);
    setInterval(() => {
        if (holder() && holder().getClientRects().length) follow();
    }, TICK);
})();
