// LoRA Lab: a sound and a notification of the browser when a run or the whole queue has ended, where that is wanted.
(function () {
    "use strict";
    if (window.loraLabQueue) return;
    window.loraLabQueue = {played: 0};

    const KEY = "lora_lab_tell", TICK = 500;
    const box = () => document.querySelector("#lora_lab_end_tell input");
    let ended = null; // how many runs had ended when this was looked at last

    // Two soft tones, made here: no file is fetched.
    function play(high) {
        window.loraLabQueue.played += 1;
        const Context = window.AudioContext || window.webkitAudioContext;
        if (!Context) return;
        const audio = new Context();
        [0, 0.22].forEach((start, i) => {
            const tone = audio.createOscillator(), loud = audio.createGain();
            const at = audio.currentTime + start;
            tone.frequency.value = (high ? 660 : 440) * (i ? 1.5 : 1);
            loud.gain.setValueAtTime(0.0001, at);
            loud.gain.exponentialRampToValueAtTime(0.2, at + 0.03);
            loud.gain.exponentialRampToValueAtTime(0.0001, at + 0.35);
            tone.connect(loud).connect(audio.destination);
            tone.start(at);
            tone.stop(at + 0.4);
        });
        setTimeout(() => audio.close(), 1500);
    }

    function tell(pulse) {
        const last = pulse.left === "0";
        play(last);
        if (!("Notification" in window) || Notification.permission !== "granted") return;
        const what = last ? "nothing waits any more" : pulse.left + " to go";
        new Notification("LoRA Lab: " + pulse.name + " " + pulse.state, {body: what, tag: "lora_lab"});
    }

    function look() {
        const here = box();
        if (here && !here.dataset.known) {
            here.dataset.known = "1";
            here.checked = localStorage.getItem(KEY) === "1";
        }
        const span = document.querySelector("#lora_lab_live_pulse [data-ended]");
        if (!span) return;
        const now = Number(span.dataset.ended);
        if (ended !== null && now > ended && localStorage.getItem(KEY) === "1") tell(span.dataset);
        ended = now;
    }

    document.addEventListener("change", (event) => {
        if (!event.target.closest || !event.target.closest("#lora_lab_end_tell")) return;
        localStorage.setItem(KEY, event.target.checked ? "1" : "0");
        if (!event.target.checked) return;
        play(true); // so that one hears what it is; a browser allows sound after a click only
        if ("Notification" in window && Notification.permission === "default") Notification.requestPermission();
    });
    setInterval(look, TICK);
})();
