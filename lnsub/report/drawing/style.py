"""The page's style sheet: light and dark, screen, phone and paper."""

from lnsub.report.drawing.colours import DARK_PALETTE, PALETTE, sequential
from lnsub.report.drawing.svg import STYLES

_SHADES = tuple(sequential(share) for share in (0.32, 0.55, 0.78, 1.0))


def _properties(palette: tuple[str, ...], shades: list[str], **named: str) -> str:
    properties = {f"p{i}": colour for i, colour in enumerate(palette)} | {f"b{i}": c for i, c in enumerate(shades)}
    return "".join(f"--{name}:{value};" for name, value in (properties | named).items())


_LIGHT = _properties(
    PALETTE,
    [shade.light for shade in _SHADES],
    fg="#1b1f24",
    muted="#5b636d",
    bg="#ffffff",
    soft="#f5f6f8",
    rule="#d9dde2",
    link="#0b5cad",
)
_DARK = _properties(
    DARK_PALETTE,
    [shade.dark for shade in _SHADES],
    fg="#e7eaee",
    muted="#a2abb6",
    bg="#14171b",
    soft="#1d2127",
    rule="#343b44",
    link="#7db8f5",
)

CSS = (
    f":root{{color-scheme:light dark;{_LIGHT}}}"
    + "".join(f".s{i}{{--c:var(--p{i})}}" for i in range(STYLES))
    + "".join(f".b{i}{{fill:var(--b{i})}}" for i in range(len(_SHADES)))
    + """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",
"Noto Naskh Arabic","Noto Sans CJK SC",sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .3em;letter-spacing:-.01em}
h2{font-size:1.25rem;line-height:1.3;margin:0 0 .4em}
p,ul{margin:.4em 0 .8em}
a{color:var(--link)}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.sub,.reading,.left,footer{color:var(--muted)}
.reading,.sub,.left{max-width:80ch}
.summary{background:var(--soft);border-radius:10px;padding:16px 22px 10px;margin:20px 0}
.summary li{margin:.35em 0;max-width:90ch}
section{border-top:1px solid var(--rule);margin-top:34px;padding-top:22px}
nav ul,.languages ul,.key{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.25em 1.3em}
.key{font-size:.88rem;margin:.5em 0;gap:.25em 1.2em}
.key li,p.key{display:inline-flex;align-items:center;gap:.45em}
p.key{display:flex;margin:.3em 1.6em .3em 0}
.keys{display:flex;flex-wrap:wrap;gap:0 1.2em}
.swatch{flex:none;overflow:visible}
.panels{display:flex;flex-wrap:wrap;gap:22px 28px;align-items:flex-start;margin:14px 0}
.group{display:flex;flex-wrap:wrap;gap:22px 20px;max-width:100%}
figure{margin:0;max-width:100%;min-width:0}
figcaption{font-weight:600;font-size:.9rem;margin:0 0 6px}
.scroll,.wide{overflow-x:auto;max-width:100%}
.scroll svg{display:block;max-width:100%;height:auto}
svg text{font-family:inherit;font-size:12px}
.t{fill:var(--fg)}
svg .name{fill:var(--muted)}
svg .n{font-size:11px;font-variant-numeric:tabular-nums;fill:var(--li,var(--fg))}
svg .faint{fill:var(--muted)}
.cell{fill:var(--l)}
.grid{stroke:var(--rule);stroke-width:1}
.zero,.axis{stroke:var(--muted);stroke-width:1}
.line,.plain,.level,.range{fill:none;stroke:var(--c)}
.line{stroke-width:2;stroke-linejoin:round}
.line.again{stroke-dasharray:7 3}
.plain{stroke-width:1.4;stroke-dasharray:5 3}
.level{stroke-width:1.6;stroke-dasharray:.1 4;stroke-linecap:round}
.range{stroke-width:1.4;opacity:.65}
.ring{fill:none;stroke:var(--c,var(--fg));stroke-width:1.6}
.m{fill:var(--c);stroke:var(--bg);stroke-width:.8}
.mean{stroke:var(--fg);stroke-width:2}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:5px 12px 5px 0;border-bottom:1px solid var(--rule);vertical-align:top}
thead th{white-space:nowrap;color:var(--muted);font-weight:600}
td{min-width:3.5em;max-width:26em}
details{margin:.6em 0}
summary{cursor:pointer}
.csv{font-size:.88rem}
footer{border-top:1px solid var(--rule);margin-top:40px;padding-top:14px;font-size:.88rem}
@media (max-width:480px){main{padding:18px 14px 40px}h1{font-size:1.4rem}
.summary{padding:12px 14px 6px;margin:16px -4px}.summary ul{padding-left:1.1em}}
@media print{body{font-size:11pt}main{max-width:none;padding:0}nav{display:none}
section{margin-top:18px;padding-top:12px}figure,tr{break-inside:avoid}h2{break-after:avoid}
.scroll,.wide{overflow:visible}table{font-size:8pt}
svg .cell,.bar,.summary{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
    # Last, so that it wins; and for screens alone, as paper is always light.
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_DARK}}}"
    "svg .cell{fill:var(--d)}svg .n{fill:var(--di,var(--fg))}}"
)
"""Custom properties ``--p0`` and so on colour the series, ``--b0`` and so on the bars."""
