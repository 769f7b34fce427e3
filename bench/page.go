package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// style of report.html.
const style = `body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222;background:#fff}
h1{font-size:1.6em}h2{font-size:1.1em;margin:2em 0 .3em}p{margin:.3em 0}.held{color:#1a7f37}.not{color:#c62828}
td,th{text-align:left;padding:.2em 1em .2em 0}svg{display:block;width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:#222}.small{fill:#555;font-size:11px}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}text{fill:#ddd}.small{fill:#aaa}.held{color:#6fdd8b}.not{color:#ff8a80}}`

// colors of the targets, in the order of the columns.
func color(i int) string {
	return [...]string{"#2f6fde", "#d9822b", "#7b61a8", "#6b7785", "#2b9a8b", "#b0417a"}[i%6]
}

// page is report.html: one file, with its plots inside.
func (r *report) page() []byte {
	var b bytes.Buffer
	esc := html.EscapeString
	fmt.Fprintf(&b, "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>Benchmarks</title><style>%s</style>", style)
	fmt.Fprintf(&b, "<h1>Brokers side by side</h1><p>Commit %s, %s, kernel %s, %s, %d CPUs, congestion control %s, private network namespace: %t.</p>",
		esc(r.Commit), esc(r.When), esc(r.Kernel), esc(r.Go), r.CPUs, esc(r.Congestion), r.Namespace)
	fmt.Fprintf(&b, "<p>Runs of %.0f s, %d repetitions in turn. A bar is the median, the line on it runs from the smallest to the largest run. CPU is what the broker used for the same work.</p><p><code>%s</code></p>",
		r.Seconds, r.Repetitions, esc(r.Command))
	names := r.names()
	for i := range r.Points {
		p := &r.Points[i]
		fmt.Fprintf(&b, "<h2>%s: %s</h2>", esc(p.ID), esc(p.Name))
		if p.Gate != "" {
			class := ""
			if p.Held != nil {
				class = "not"
				if *p.Held {
					class = "held"
				}
			}
			fmt.Fprintf(&b, "<p class=%q>%s</p>", class, esc(p.verdict()))
		}
		p.plot(&b, names)
		for _, name := range names {
			if m, ok := p.Medians[name]; ok && len(m.Also) > 0 {
				fmt.Fprintf(&b, "<p>%s%s</p>", esc(name), esc(m.alsoText()))
			}
		}
		for name, why := range p.Failed {
			fmt.Fprintf(&b, "<p class=not>%s: %s</p>", esc(name), esc(why))
		}
	}
	if len(r.Growth) > 0 {
		b.WriteString("<h1>How cost grows</h1><table><tr><th>what<th>base<th>grown<th>ratio<th>at most</tr>")
		for _, g := range r.Growth {
			class := "not"
			if g.Held {
				class = "held"
			}
			fmt.Fprintf(&b, "<tr class=%s><td>%s: %s<td>%s %s<td>%s %s<td>%.2f<td>%.2f</tr>", class, esc(g.ID), esc(g.Name), figure(g.Base), esc(g.Unit), figure(g.Grown), esc(g.Unit), g.Ratio, g.Most)
		}
		b.WriteString("</table>")
	}
	return b.Bytes()
}

// Measures of a plot, in the units of its viewBox.
const (
	plotWidth  = 900
	labelWidth = 90
	barsWidth  = 380 // of the headline's half
	rowHeight  = 26
)

// plot draws two groups of bars: the headline and the CPU for the same work.
func (p *point) plot(b *bytes.Buffer, names []string) {
	var mostHead, mostCost float64
	n := 0
	for _, name := range names {
		if m, ok := p.Medians[name]; ok {
			_, high := p.spread(name)
			mostHead, mostCost = max(mostHead, high), max(mostCost, p.kind.cost(&m))
			n++
		}
	}
	if n == 0 {
		return
	}
	fmt.Fprintf(b, `<svg viewBox="0 0 %d %d" role="img"><text class="small" x="%d" y="12">%s</text><text class="small" x="%d" y="12">CPU of the broker</text>`,
		plotWidth, n*rowHeight+20, labelWidth, html.EscapeString(p.Unit), labelWidth+barsWidth+60)
	row := 0
	for i, name := range names {
		m, ok := p.Medians[name]
		if !ok {
			continue
		}
		y := 18 + row*rowHeight
		row++
		head := p.kind.headline(&m)
		low, high := p.spread(name)
		scale := func(v float64) float64 { return v / math.Max(mostHead, 1e-9) * (barsWidth - 90) }
		fmt.Fprintf(b, `<text x="0" y="%d">%s</text>`, y+15, html.EscapeString(name))
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="18" fill="%s"/>`, labelWidth, y, scale(head), color(i))
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#888" stroke-width="2"/>`, labelWidth+scale(low), labelWidth+scale(high), y+9, y+9)
		fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`, labelWidth+scale(high)+6, y+14, figure(head))
		if c := p.kind.cost(&m); c > 0 {
			x := float64(labelWidth + barsWidth + 60)
			w := c / math.Max(mostCost, 1e-9) * (plotWidth - x - 100)
			fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="18" fill="%s"/><text x="%.1f" y="%d">%s</text>`, x, y, w, color(i), x+w+6, y+14, p.kind.costText(&m))
		}
	}
	b.WriteString("</svg>")
}
