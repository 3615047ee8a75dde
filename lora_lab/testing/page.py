"""A finished grid as one HTML file that needs nothing else: a slider between two cells, linked zoom, the difference."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

from PIL import Image

from lora_lab.errors import SettingsError
from lora_lab.testing.events import GridResult
from lora_lab.testing.export import columns, lines, told
from lora_lab.whole_file import write_whole

STYLE = """
body{font:14px system-ui,sans-serif;margin:1rem;background:#fafafc;color:#20222c}
@media(prefers-color-scheme:dark){body{background:#16181d;color:#e4e6ee}}
table{border-collapse:collapse}td,th{padding:3px;text-align:left;font-weight:500;max-width:16rem}
td img{width:128px;display:block;cursor:pointer;border:3px solid transparent}
td img.a{border-color:#2f6fed}td img.b{border-color:#e0702a}
#view{position:relative;overflow:hidden;width:min(92vw,768px);touch-action:none;cursor:grab;background:#888}
#view img{position:absolute;inset:0;width:100%;transform-origin:0 0}
#bar{position:absolute;top:0;bottom:0;width:2px;background:#fff;box-shadow:0 0 3px #000}
#slide{width:min(92vw,768px)}pre{white-space:pre-wrap}
#view.diff #top{mix-blend-mode:difference;clip-path:none!important}
#view.diff{filter:brightness(3)}#view.diff #bar{display:none}
"""
SCRIPT = """
const $=id=>document.getElementById(id),view=$('view'),cells=[...document.querySelectorAll('td img')];
let a=cells[0],b=cells[1]||cells[0],zoom=1,x=0,y=0,drag=null;
function show(){
 cells.forEach(c=>{c.classList.toggle('a',c===a);c.classList.toggle('b',c===b)});
 $('under').src=b.src;$('top').src=a.src;
 $('names').textContent=a.alt+'  |  '+b.alt;$('info').textContent=a.dataset.info+'\\n\\n'+b.dataset.info;
 view.style.aspectRatio=(a.naturalWidth||1)+'/'+(a.naturalHeight||1);place();
}
function place(){
 const s=+$('slide').value,w=view.clientWidth,h=view.clientHeight;
 x=Math.min(0,Math.max(w*(1-zoom),x));y=Math.min(0,Math.max(h*(1-zoom),y));
 for(const id of ['under','top']){$(id).style.transform=`translate(${x}px,${y}px) scale(${zoom})`;
  $(id).style.imageRendering=zoom*w/(a.naturalWidth||1)>3?'pixelated':'auto'}
 const cut=((w*s/100)-x)/zoom;$('top').style.clipPath=`inset(0 ${Math.max(0,w-cut)}px 0 0)`;$('bar').style.left=s+'%';
}
cells.forEach(c=>{c.onclick=e=>{if(e.shiftKey)b=c;else a=c;show()};c.oncontextmenu=e=>{e.preventDefault();b=c;show()}});
$('slide').oninput=place;$('diff').onchange=e=>view.classList.toggle('diff',e.target.checked);
$('swap').onclick=()=>{[a,b]=[b,a];show()};$('fit').onclick=()=>{zoom=1;place()};
view.onwheel=e=>{e.preventDefault();const r=view.getBoundingClientRect(),px=e.clientX-r.left,py=e.clientY-r.top,
 n=Math.min(16,Math.max(1,zoom*(e.deltaY<0?1.25:0.8)));x=px-(px-x)*n/zoom;y=py-(py-y)*n/zoom;zoom=n;place()};
view.onpointerdown=e=>{drag=[e.clientX-x,e.clientY-y];view.setPointerCapture(e.pointerId)};
view.onpointermove=e=>{if(drag){x=e.clientX-drag[0];y=e.clientY-drag[1];place()}};view.onpointerup=()=>drag=null;
window.onload=show;window.onresize=place;
"""


def save_page(result: GridResult, path: Path) -> Path:
    """Write it whole or not at all.

    Raises:
        SettingsError: there is no picture.
        OutputError: it cannot be written.
    """
    found = lines(result)
    if not found:
        raise SettingsError("the grid has no picture yet", remedy="let it make one")
    heads = columns(result)
    title = f"{result.plan.lora.stem}: {len(found)} x {len(heads)}"
    rows = ["<tr><th></th>" + "".join(f"<th>{html.escape(head)}</th>" for head in heads) + "</tr>"]
    for label, pictures in found:
        cells = []
        for head, made in zip(heads, pictures, strict=True):
            cells.append(f"<td>{_picture(made.image, f'{label}, {head}', made.infotext) if made else ''}</td>")
        rows.append(f"<tr><th>{html.escape(label)}</th>{''.join(cells)}</tr>")
    write_whole(path, _document(title, "\n".join(rows), told(result)), "the page")
    return path


def _picture(image: Image.Image, name: str, infotext: str) -> str:
    held = io.BytesIO()
    image.save(held, format="PNG")
    source = base64.b64encode(held.getvalue()).decode("ascii")
    words = html.escape(name, quote=True), html.escape(infotext, quote=True)
    return f'<img alt="{words[0]}" title="{words[0]}" data-info="{words[1]}" src="data:image/png;base64,{source}">'


def _document(title: str, rows: str, info: str) -> str:
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>{STYLE}</style><h1>{html.escape(title)}</h1>
<p>Click a picture for the left side, shift-click (or right-click) for the right one. Wheel: zoom. Drag: move.</p>
<div id="view"><img id="under" alt=""><img id="top" alt=""><div id="bar"></div></div>
<input id="slide" type="range" min="0" max="100" value="50" aria-label="between the two pictures">
<p><button id="swap">swap</button> <button id="fit">whole picture</button>
<label><input id="diff" type="checkbox"> difference (three times as bright)</label> <b id="names"></b></p>
<table>{rows}</table><details><summary>infotext</summary><pre id="info"></pre><pre>{html.escape(info)}</pre></details>
<script>{SCRIPT}</script></html>
"""
