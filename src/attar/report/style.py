"""How the pages look: one accent colour for what was distilled, ink for the teacher, grey for the student alone."""

_LIGHT = """
  --paper: #fbfaf8; --card: #ffffff; --ink: #1f1b22; --soft: #6a6470; --line: #e7e3de; --mid: #8d8794;
  --accent: #b3245c; --wash: #f8e9ef;
  --hue0: #b3245c; --hue1: #0072b2; --hue2: #00805c; --hue3: #b25600; --hue4: #6b4fa0; --hue5: #4b7f86;
  --hue6: #8a6d00; --hue7: #5b6570;"""
_DARK = """
  --paper: #141216; --card: #1b181e; --ink: #eeeaf0; --soft: #a8a1b0; --line: #332e38; --mid: #8b8593;
  --accent: #f07ba3; --wash: #35202a;
  --hue0: #f07ba3; --hue1: #62b5ea; --hue2: #4cc5a0; --hue3: #f0a060; --hue4: #b49bec; --hue5: #86c5cc;
  --hue6: #d9bd4a; --hue7: #aab4bf;"""

STYLE = (
    f"""
:root {{ color-scheme: light dark;{_LIGHT}
}}
@media screen and (prefers-color-scheme: dark) {{ :root {{{_DARK}
}} }}
"""
    + """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 74rem; margin: 0 auto; padding: clamp(1.5rem, 5vw, 4.5rem) clamp(1rem, 4vw, 3rem) 5rem; }
header { max-width: 64rem; }
.over { color: var(--accent); font-size: .8rem; font-weight: 600; letter-spacing: .09em; text-transform: uppercase;
  margin: 0; }
h1 { font-size: clamp(1.7rem, 4.2vw, 2.6rem); line-height: 1.15; letter-spacing: -.02em; font-weight: 650;
  margin: .5rem 0 1.1rem; overflow-wrap: anywhere; }
.headline { text-wrap: pretty; font-size: clamp(1.05rem, 1.8vw, 1.25rem); line-height: 1.5; margin: 0; }
.tiles { display: flex; flex-wrap: wrap; gap: 1px; margin: 2.4rem 0 0; padding: 0; background: var(--line);
  border: 1px solid var(--line); border-radius: 12px; overflow: hidden; }
.tiles div { flex: 1 1 13.75rem; background: var(--card); padding: 1.1rem 1.3rem 1.2rem; }
.tiles dt { font-size: .86rem; color: var(--soft); }
.tiles dd { margin: 0; font-size: .84rem; color: var(--soft); font-variant-numeric: tabular-nums; }
.tiles .big { font-size: 2.1rem; line-height: 1.25; font-weight: 600; letter-spacing: -.02em; color: var(--ink); }
.tiles .main { color: var(--accent); } .tiles .long { font-size: 1.5rem; line-height: 1.75; }
.note { border-left: 3px solid var(--mid); padding-left: .8rem; }
section { margin-top: 4rem; }
h2 { font-size: 1.35rem; line-height: 1.3; letter-spacing: -.01em; font-weight: 620; margin: 0 0 .3rem; }
.lede { color: var(--soft); max-width: 60rem; margin: 0 0 1.5rem; font-size: .95rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19.5rem), 1fr)); gap: 1.9rem 2.6rem;
  align-items: start; }
.grid > *, .pair > * { min-width: 0; }
.wide + .grid, .grid + .wide { margin-top: 2.2rem; }
.pair { display: grid; grid-template-columns: minmax(0, 20rem) minmax(0, 1fr); gap: 2rem 2.6rem; align-items: start; }
@media (max-width: 72rem) { .pair { grid-template-columns: minmax(0, 1fr); } .tiles div { flex-basis: 40%; } }
figure { margin: 0; break-inside: avoid; max-width: 30rem; }
figcaption { font-size: .92rem; line-height: 1.45; margin-bottom: .55rem; overflow-wrap: anywhere; }
figcaption b { font-weight: 600; }
figcaption span { display: block; color: var(--soft); font-size: .84rem; font-variant-numeric: tabular-nums; }
svg { display: block; max-width: 100%; height: auto; }
figure svg { width: 100%; }
.wide { overflow-x: auto; -webkit-overflow-scrolling: touch; }
.wide svg { margin: 0 auto; }
.wide + .wide { margin-top: 2.2rem; }
table { border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { padding: .5rem 1.25rem .5rem 0; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
.dense table { font-size: .84rem; } .dense :is(th, td) { padding-right: .8rem; }
th:last-child, td:last-child { padding-right: 0; }
.link { margin: 1.2rem 0 0; } a { color: var(--accent); }
th { font-weight: 500; color: var(--soft); font-size: .82rem; vertical-align: bottom; }
th.text, td.text { text-align: left; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
tr.worse td { font-weight: 600; }
tr.student td { color: var(--accent); font-weight: 600; }
tr.best td { font-weight: 600; }
.heat td { padding: .4rem .7rem; background: color-mix(in srgb, var(--accent) calc(var(--share) * .6), transparent); }
.heat th { padding: .4rem .7rem; } .heat th:first-child { padding-left: 0; }
.heat td:first-child { background: var(--paper); padding-left: 0; }
.key { white-space: nowrap; margin-right: 1.1em; }
.key i { display: inline-block; width: .62em; height: .62em; border-radius: 50%; margin-right: .45em; }
pre { margin: 0; padding: 1rem 1.2rem; overflow: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px;
  font: .82rem/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.3rem; margin: 0; font-size: .9rem; }
.facts dt { color: var(--soft); } .facts dd { margin: 0; overflow-wrap: anywhere; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1.5rem 1rem; }
.pictures figure { font-size: .82rem; line-height: 1.45; }
.pictures img { width: 100%; max-width: 8.6rem; aspect-ratio: 1; object-fit: contain; image-rendering: pixelated;
  display: block;
  border-radius: 8px; background: var(--card); border: 1px solid var(--line); margin-bottom: .5rem; }
.pictures p { margin: 0; display: flex; gap: .6em; justify-content: space-between; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.pictures p span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.pictures .file span { white-space: normal; overflow-wrap: anywhere; }
.pictures .truth, .pictures .file { color: var(--soft); }
  .pictures .file { font-size: .75rem; } .pictures .student { color: var(--accent); }
footer { margin-top: 4.5rem; padding-top: 1.1rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .85rem; }
svg text { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  fill: var(--ink);
  font-variant-numeric: tabular-nums; }
svg .tick, svg .label { fill: var(--soft); }
svg .name { font-size: 11.5px; paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
svg .tick.name { font-size: 11px; fill: var(--ink); }
svg text.student { fill: var(--accent); font-weight: 600; } svg text.alone, svg text.peer { fill: var(--soft); }
svg .grid { stroke: var(--line); fill: none; } svg .axis { stroke: var(--mid); fill: none; }
svg .honest { stroke: var(--soft); stroke-dasharray: 3 4; fill: none; }
svg .line { fill: none; stroke: var(--hue); stroke-width: 1.9; stroke-linejoin: round; stroke-linecap: round; }
svg .line.faint { stroke-width: 1; stroke-opacity: .32; }
svg .leader { stroke: var(--hue); stroke-width: .8; stroke-opacity: .6; }
svg .range { stroke: var(--hue); stroke-width: 2.2; stroke-linecap: round; stroke-opacity: .5; }
svg .dot { fill: var(--hue); stroke: var(--paper); stroke-width: 1.5; }
svg .fill { fill: var(--hue); } svg .gain { fill: var(--accent); } svg .loss { fill: var(--mid); }
svg .hue { fill: var(--hue); font-weight: 600; }
.teacher { --hue: var(--ink); }
.alone { --hue: var(--mid); }
.student { --hue: var(--accent); }
.peer { --hue: var(--soft); }
"""
    + "\n".join(f".hue{n} {{ --hue: var(--hue{n}); }} svg text.hue{n} {{ fill: var(--hue{n}); }}" for n in range(8))
    + """
.key i { background: var(--hue); }
@media (max-width: 40rem) { .tiles div { padding: .8rem .9rem .9rem; }
  .tiles .big { font-size: 1.6rem; } .tiles .long { font-size: 1.1rem; line-height: 2.2; } section { margin-top: 3rem; }
th, td { padding-right: 1rem; }
th:first-child, td:first-child { min-width: 7.5rem; max-width: 40vw; white-space: normal; overflow-wrap: break-word; }
.wide svg text { font-size: 17px !important; }
.facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .55rem; } .pictures { grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); } }
@media print { :root { --paper: #ffffff; }
  body { font-size: 11pt; background: #fff; }
main { max-width: none; padding: 0; }
section { margin-top: 2rem; }
  h2, .lede { break-after: avoid; }
.tiles, table, .pictures figure { break-inside: avoid; }
.wide, pre { overflow: visible; }
  pre { white-space: pre-wrap; } .grid { grid-template-columns: repeat(2, 1fr); } .wide svg { max-width: 100%; } }
"""
)
