package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/isthmus-gateway/isthmus/loadtest/media"
)

// Sizes in the units of a plot, which are pixels on a telephone.
const (
	plotWidth  = 360.0
	plotHeight = 190.0
	plotLeft   = 52.0
	plotRight  = 352.0
	plotTop    = 10.0
	plotBottom = 162.0
)

// plot is one figure of the page.
type plot struct {
	Title  string
	Curves []drawn
	Boxes  []box
	X, Y   []tick
	Empty  bool
}

// curve is a series of points.
type curve struct {
	Name string
	x, y []float64
}

func (c *curve) add(x, y float64) { c.x, c.y = append(c.x, x), append(c.y, y) }

// drawn is a curve in the plot's units.
type drawn struct {
	Name, Class, Path string
	Dots              []dot
}

type dot struct {
	X, Y  float64
	Label string
}

type box struct {
	X, Y, Width, Height float64
	Label               string
}

// tick of an axis, at a place in the plot's units.
type tick struct {
	At    float64
	Label string
}

func count(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.3gk", v/1e3)
	}
	return fmt.Sprintf("%.4g", v)
}

func seconds(v float64) string { return fmt.Sprintf("%g s", v) }

// lines draws curves over time.
func lines(title string, unit func(float64) string, curves ...curve) plot {
	p := plot{Title: title}
	var right, top float64
	for _, c := range curves {
		for i := range c.x {
			right, top = max(right, c.x[i]), max(top, c.y[i])
		}
	}
	if right == 0 {
		p.Empty = true
		return p
	}
	step, high := steps(top, 4)
	x := func(v float64) float64 { return round(plotLeft + v/right*(plotRight-plotLeft)) }
	y := func(v float64) float64 { return round(plotBottom - v/high*(plotBottom-plotTop)) }
	for v := 0.0; v <= high*1.0001; v += step {
		p.Y = append(p.Y, tick{y(v), unit(v)})
	}
	step, _ = steps(right, 5)
	for v := 0.0; v <= right*1.0001; v += step {
		p.X = append(p.X, tick{x(v), seconds(v)})
	}
	for i, c := range curves {
		d := drawn{Name: c.Name, Class: fmt.Sprintf("c%d", i)}
		var path strings.Builder
		for k := range c.x {
			fmt.Fprintf(&path, "%s%g %g", map[bool]string{true: "M", false: "L"}[k == 0], x(c.x[k]), y(c.y[k]))
			d.Dots = append(d.Dots, dot{x(c.x[k]), y(c.y[k]), fmt.Sprintf("%s at %.1f s: %s", c.Name, c.x[k], unit(c.y[k]))})
		}
		d.Path = path.String()
		p.Curves = append(p.Curves, d)
	}
	return p
}

// columns draws a distribution, with logarithmic axes.
func columns(title string, bars []media.Bar) plot {
	p := plot{Title: title, Empty: len(bars) == 0}
	if p.Empty {
		return p
	}
	first, last := math.Log10(max(bars[0].From, 0.1)), math.Log10(max(bars[len(bars)-1].From, 0.1)*1.1)
	first, last = math.Floor(first), max(math.Ceil(last), math.Floor(first)+1)
	top := 1.0
	for _, b := range bars {
		top = max(top, math.Log10(float64(b.Count))+0.1)
	}
	top = math.Ceil(top)
	x := func(us float64) float64 {
		return round(plotLeft + (math.Log10(max(us, 0.1))-first)/(last-first)*(plotRight-plotLeft))
	}
	for e := first; e <= last; e++ {
		p.X = append(p.X, tick{x(math.Pow(10, e)), micros(math.Pow(10, e))})
	}
	height := func(n float64) float64 { return n / top * (plotBottom - plotTop) }
	for e := 0.0; e <= top; e++ {
		p.Y = append(p.Y, tick{round(plotBottom - height(e)), count(math.Pow(10, e))})
	}
	for _, b := range bars {
		// One packet is a column too.
		h := round(height(math.Log10(float64(b.Count)) + 0.1))
		left := x(b.From)
		p.Boxes = append(p.Boxes, box{
			left, round(plotBottom - h), max(round(x(b.From*1.125)-left-0.4), 0.8), h,
			fmt.Sprintf("from %s: %d packets", micros(b.From), b.Count),
		})
	}
	return p
}

// steps are round distances of at most n ticks up to v, and the last tick.
func steps(v float64, n float64) (step, high float64) {
	if v <= 0 {
		return 1, 1
	}
	step = math.Pow(10, math.Floor(math.Log10(v/n)))
	for _, f := range []float64{1, 2, 5, 10} {
		if v/(step*f) <= n {
			step *= f
			break
		}
	}
	return step, step * math.Ceil(v/step-1e-9)
}

func round(v float64) float64 { return math.Round(v*10) / 10 }
