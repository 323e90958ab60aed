"""The style sheet of the run's report: light, readable in narrow windows and on paper."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light; --ink: #1d2530; --soft: #5f6b7a; --line: #dfe3e9; --card: #fff;
  --good: #18794e; --bad: #b42318; --warn: #9a6700; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f6f8; color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; margin: 0; } h2 { font-size: 19px; margin: 34px 0 12px; }
h3 { font-size: 16px; margin: 0; overflow-wrap: anywhere; }
header p { margin: 4px 0 20px; color: var(--soft); overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.tile, .plots figure, .stream { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; padding: 14px 16px; }
.tile b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; line-height: 1.3; }
.tile span { color: var(--soft); font-size: 13px; } .tile.bad b { color: var(--bad); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr));
  gap: 12px; margin-top: 12px; }
figure { margin: 0; } figcaption { color: var(--soft); font-size: 13px; }
.plots figcaption { margin-bottom: 4px; }
.plots figcaption b { color: var(--ink); font-size: 15px; margin-right: 6px; }
svg { display: block; width: 100%; height: auto; }
svg .tick { font-size: 13px; fill: var(--soft); } svg .name { font-size: 12.5px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
.legend { list-style: none; margin: 6px 0 0; padding: 0; display: flex; flex-wrap: wrap;
  gap: 2px 14px; font-size: 13px; color: var(--soft); }
.legend i { display: inline-block; width: 14px; height: 3px; border-radius: 2px;
  margin-right: 6px; vertical-align: middle; }
.stream { margin-bottom: 12px; } .stream p { margin: 4px 0; overflow-wrap: anywhere; }
.stream svg { max-width: 680px; }
.paths { color: var(--soft); font-size: 13px; }
.state { font-size: 12px; font-weight: 600; padding: 2px 9px; border-radius: 999px;
  background: #e9ecf1; color: var(--soft); vertical-align: 2px; margin-left: 6px; }
.state.done { background: #e0f3e9; color: var(--good); }
.state.failed { background: #fde7e5; color: var(--bad); }
.state.stopped { background: #fdf3d7; color: var(--warn); }
.error { color: var(--bad); } .note { color: var(--warn); font-size: 14px; }
.thumbs { display: flex; gap: 8px; overflow-x: auto; margin: 10px 0 4px; padding-bottom: 6px; }
.thumbs figure { flex: 0 0 auto; } .thumbs img { display: block; width: 208px; height: auto;
  border-radius: 6px; border: 1px solid var(--line); }
details { margin-top: 8px; } summary { cursor: pointer; color: var(--soft); font-size: 14px; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; text-align: left; }
th, td { padding: 5px 12px; border-bottom: 1px solid var(--line); vertical-align: top; }
details td:not(:first-child), details th:not(:first-child) { text-align: right; }
.events { width: 100%; } .events tr:last-child td { border-bottom: 0; }
.events td:first-child { white-space: nowrap; } .events td:last-child { overflow-wrap: anywhere; }
tr.error td:nth-child(2), tr.critical td:nth-child(2) { color: var(--bad); font-weight: 600; }
tr.warning td:nth-child(2) { color: var(--warn); font-weight: 600; }
.empty { color: var(--soft); }
@media (max-width: 560px) {
  main { padding: 18px 12px 40px; } .tile b { font-size: 19px; } .thumbs img { width: 168px; }
  .tiles { grid-template-columns: repeat(2, 1fr); }
  svg .tick, svg .name { font-size: 16px; }
  th, td { padding: 4px 8px; }
}
@media print { body { background: #fff; } .stream, .plots figure { break-inside: avoid; } }
"""
