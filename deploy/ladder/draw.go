package ladder

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Life lines in their order, and how the header names them.
var actors = []struct{ actor, name string }{
	{"device", "app"}, {"gateway", "gateway"}, {"network", "network"}, {"media", "media"},
}

// Widths in columns: between two life lines, and left of the first one.
const (
	span = 24
	left = 25
)

// Drawing draws entries, one line each.
type Drawing struct {
	w io.Writer
	// Color uses the terminal's colours.
	color bool
	// width of a line in columns, 0 for as long as it gets.
	width int
	// zone that times are shown in.
	zone *time.Location

	last  time.Time
	calls map[string]int
	// header was drawn, and how many lines ago.
	since int
}

// Look of a drawing.
type Look struct {
	Color bool
	// Width cuts lines to this many columns; 0 does not.
	Width int
	// Zone of times; nil for the local one.
	Zone *time.Location
}

// Draw makes a drawing on w.
func Draw(w io.Writer, l Look) *Drawing {
	if l.Zone == nil {
		l.Zone = time.Local
	}
	return &Drawing{w: w, color: l.Color, width: l.Width, zone: l.Zone, calls: map[string]int{}, since: repeat}
}

// repeat is how many lines are drawn between two headers.
const repeat = 40

// Colours (SGR parameters).
const (
	dim     = "2"
	bold    = "1"
	red     = "31"
	green   = "32"
	yellow  = "33"
	blue    = "34"
	magenta = "35"
	cyan    = "36"
)

// Add draws an entry.
func (d *Drawing) Add(e Entry) error {
	if d.since >= repeat {
		d.since = 0
		if err := d.print(d.header()); err != nil {
			return err
		}
	}
	d.since++
	number, fresh := d.call(e)
	if fresh {
		line := []cell{{text: fmt.Sprintf("#%d", number), style: bold}, {text: " call " + e.CallID, style: bold}}
		if e.Number != "" {
			line = append(line, cell{text: " of " + e.Number, style: bold})
		}
		if err := d.print(line); err != nil {
			return err
		}
	}
	line := []cell{{text: d.times(e.Time), style: dim}, {text: pad(label(number), 4)}}
	line = append(line, d.arrow(e)...)
	if detail := summary(e); detail != "" {
		line = append(line, cell{text: "  " + detail, style: dim})
	}
	return d.print(line)
}

// call numbers the calls as they come; 0 is what belongs to none.
func (d *Drawing) call(e Entry) (number int, fresh bool) {
	if e.CallID == "" {
		return 0, false
	}
	number, known := d.calls[e.CallID]
	if !known {
		number = len(d.calls) + 1
		d.calls[e.CallID] = number
	}
	return number, !known
}

func label(number int) string {
	if number == 0 {
		return ""
	}
	return fmt.Sprintf("#%d", number)
}

// times are the time of an entry and what has passed since the last one.
func (d *Drawing) times(at time.Time) string {
	passed := ""
	if !d.last.IsZero() {
		passed = delta(at.Sub(d.last))
	}
	d.last = at
	return pad(at.In(d.zone).Format("15:04:05.000"), 13) + pad(passed, 8)
}

// delta writes a duration in at most seven columns.
func delta(t time.Duration) string {
	sign := "+"
	if t < 0 {
		sign, t = "-", -t
	}
	switch {
	case t < time.Second:
		return fmt.Sprintf("%s%dms", sign, t.Milliseconds())
	case t < 100*time.Second:
		return fmt.Sprintf("%s%.2fs", sign, t.Seconds())
	case t < 100*time.Minute:
		return fmt.Sprintf("%s%dm", sign, int(t.Minutes()))
	}
	return fmt.Sprintf("%s%dh", sign, int(t.Hours()))
}

func (d *Drawing) header() []cell {
	line := []cell{{text: strings.Repeat(" ", left)}}
	for _, a := range actors {
		line = append(line, cell{text: pad(a.name, span), style: bold})
	}
	return line
}

// arrow draws the life lines with the arrow of an entry.
func (d *Drawing) arrow(e Entry) []cell {
	from, to := column(e.From), column(e.To)
	style := styleOf(e)
	low, high := min(from, to), max(from, to)
	var line []cell
	for i := range actors {
		switch {
		case i == low && low == high:
			// What happens in one place has its note beside the life line.
			width := span - 1
			if i == len(actors)-1 {
				width = 0
			}
			line = append(line, cell{text: "●", style: style}, cell{text: note(e.Title, width), style: style})
		case i == low:
			line = append(line, cell{text: "│", style: dim}, cell{text: shaft(caption(e), span*(high-low)-1, to > from), style: style})
		case i > low && i < high:
			// The arrow passes.
		case i == len(actors)-1:
			line = append(line, cell{text: "│", style: dim})
		default:
			line = append(line, cell{text: "│", style: dim}, cell{text: strings.Repeat(" ", span-1)})
		}
	}
	return line
}

func column(actor string) int {
	for i, a := range actors {
		if a.actor == actor {
			return i
		}
	}
	return 1 // the gateway's own
}

// shaft is an arrow of a width with its title in the middle.
func shaft(title string, width int, right bool) string {
	title = " " + cut(title, width-6) + " "
	rest := width - 1 - utf8.RuneCountInString(title)
	before := rest / 2
	line := strings.Repeat("─", before) + title + strings.Repeat("─", rest-before)
	if right {
		return line + "▶"
	}
	return "◀" + line
}

// note is a text beside a life line; a width of 0 does not bound it.
func note(title string, width int) string {
	if width == 0 {
		return " " + title
	}
	return pad(" "+cut(title, width-2), width)
}

// styleOf an entry: what a SIP message is, or where it belongs.
func styleOf(e Entry) string {
	sip := (e.From == "network" || e.To == "network") && e.From != "media" && e.To != "media"
	switch {
	case e.From == "media" || e.To == "media":
		return magenta
	case !sip && e.From == e.To:
		if strings.HasPrefix(e.Title, "not sent") {
			return red
		}
		return bold
	case !sip:
		if len(e.Title) > 0 && (e.Title[0] == '4' || e.Title[0] == '5') {
			return red
		}
		return blue
	}
	switch e.Title[:min(1, len(e.Title))] {
	case "1":
		return yellow
	case "2":
		return green
	case "3", "4", "5", "6":
		return red
	}
	return cyan
}

// cell is a text in one style.
type cell struct{ text, style string }

// print writes a line of cells, cut to the width.
func (d *Drawing) print(line []cell) error {
	var b strings.Builder
	used := 0
	for _, c := range line {
		text := c.text
		if n := utf8.RuneCountInString(text); d.width > 0 && used+n > d.width {
			text = cut(text, d.width-used)
		}
		used += utf8.RuneCountInString(text)
		if d.color && c.style != "" && strings.TrimSpace(text) != "" {
			text = "\x1b[" + c.style + "m" + text + "\x1b[0m"
		}
		b.WriteString(text)
	}
	_, err := io.WriteString(d.w, strings.TrimRight(b.String(), " ")+"\n")
	return err
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// cut shortens a text to a width, and takes out what would move the cursor.
func cut(text string, width int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
	runes := []rune(text)
	switch {
	case len(runes) <= width:
		return text
	case width < 1:
		return ""
	}
	return string(runes[:width-1]) + "…"
}
