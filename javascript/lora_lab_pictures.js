// Several pictures of the Dataset panel: choosing, keeping and dropping variants (and the candidates of GACHAMAX), and
// the round trip through img2img.
// What is chosen lives in the page; Python hears of it when a button asks (window.loraLabPictures).
(function () {
    "use strict";
    if (window.loraLabPictures) return;
    const PATIENCE = 5000, STEP = 100; // milliseconds
    const byId = (id) => document.getElementById(id);
    const shown = (element) => Boolean(element) && element.getClientRects().length > 0;
    const picks = () => Array.from(document.querySelectorAll("#lora_lab_pictures_grid .lora-lab-pick"));
    const isOn = (pick) => pick.classList.contains("lora-lab-on");
    let last = null, said = null, sent = "";

    const chosen = () => picks().filter(isOn).map((pick) => pick.dataset.picture);

    window.loraLabPictures = {
        chosen: () => JSON.stringify(chosen()),
        verdict: () => JSON.stringify(said || {}),
        results: async () => JSON.stringify({picture: sent, results: await results(), chosen: chosen()}),
    };

    function choose(pick, range) {
        const all = picks(), on = !isOn(pick);
        const from = range && last ? all.indexOf(last) : -1, to = all.indexOf(pick);
        const some = from < 0 ? [pick] : all.slice(Math.min(from, to), Math.max(from, to) + 1);
        for (const one of some) one.classList.toggle("lora-lab-on", on);
        last = pick;
    }

    function judge(verdict) {
        const place = verdict.closest("[data-button]");
        said = {act: verdict.dataset.variant, path: verdict.dataset.path};
        byId(place ? place.dataset.button : "lora_lab_pictures_act").click();
    }

    // img2img: the page's own image box takes the file as if it had been dropped there, the prompt takes the caption.
    const BOXES = {img2img: "img2img_image", inpaint: "img2maskimg"};
    const BUTTONS = {img2img: ".lora-lab-send-img2img", inpaint: ".lora-lab-send-inpaint"};
    const OPEN = {img2img: "switch_to_img2img", inpaint: "switch_to_inpaint"};

    async function until(look) {
        for (let waited = 0; waited < PATIENCE; waited += STEP) {
            const found = look();
            if (found) return found;
            await new Promise((go) => setTimeout(go, STEP));
        }
        return null;
    }

    async function send(pick, target) {
        const box = byId(BOXES[target]);
        if (!box) return;
        const data = await (await fetch(pick.dataset.full)).blob();
        const name = pick.dataset.picture.split("/").pop();
        if (typeof window[OPEN[target]] === "function") window[OPEN[target]]();
        const clear = box.querySelector("button[aria-label='Clear'], button[aria-label='Remove Image']");
        if (clear) clear.click();
        const input = await until(() => box.querySelector("input[type=file]"));
        if (!input) return;
        const files = new DataTransfer();
        files.items.add(new File([data], name, {type: data.type}));
        input.files = files.files;
        input.dispatchEvent(new Event("change", {bubbles: true}));
        const area = document.querySelector("#img2img_prompt textarea");
        if (area) {
            area.value = pick.dataset.caption;
            if (typeof updateInput === "function") updateInput(area);
        }
        sent = pick.dataset.picture;
        pick.classList.remove("lora-lab-on"); // the next click sends the next one of the selection
    }

    // What img2img has made, as data URLs: the picture that is chosen in its gallery, else all of them.
    async function results() {
        const gallery = byId("img2img_gallery");
        if (!gallery) return [];
        const images = (which) => Array.from(gallery.querySelectorAll(which), (image) => image.src);
        const one = images(".thumbnail-item.selected img");
        const all = one.length ? one : images("img");
        return Promise.all(Array.from(new Set(all), asData));
    }

    async function asData(src) {
        const data = await (await fetch(src)).blob();
        return new Promise((done, failed) => {
            const reader = new FileReader();
            reader.onload = () => done(reader.result);
            reader.onerror = () => failed(reader.error);
            reader.readAsDataURL(data);
        });
    }

    function clicked(event) {
        const at = event.target;
        if (!at.closest) return;
        const pick = at.closest(".lora-lab-pick");
        if (pick) choose(pick, event.shiftKey);
        const verdict = at.closest("[data-variant]");
        if (verdict) judge(verdict);
        for (const target of Object.keys(BOXES)) {
            if (!at.closest(BUTTONS[target])) continue;
            const first = picks().find(isOn);
            if (first) send(first, target);
        }
    }

    function pressed(event) {
        const here = document.querySelectorAll(".lora-lab-variants .lora-lab-here");
        const key = event.key.toLowerCase(), first = Array.from(here).find(shown);
        if (!first || event.ctrlKey || event.metaKey || event.altKey) return;
        if (/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) return;
        const act = {k: "keep", d: "drop"}[key];
        if (act) first.querySelector("[data-variant=" + act + "]").click();
    }

    document.addEventListener("click", clicked);
    document.addEventListener("keydown", pressed);
})();
