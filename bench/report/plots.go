package report

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"github.com/callmask/callmask/bench/load"
)

const (
	plotWidth  = 18 * vg.Centimeter
	plotHeight = 11 * vg.Centimeter
)

// plot draws what there is to see into the directory, as SVG.
func (r *Report) plot(dir string) error {
	for name, draw := range map[string]func() (*plot.Plot, error){
		"latency-2000": func() (*plot.Plot, error) { return r.plotLatency("resolve", RatePoint(2000)) },
		"latency-8000": func() (*plot.Plot, error) { return r.plotLatency("resolve", RatePoint(8000)) },
		"latency-mixed": func() (*plot.Plot, error) {
			return r.plotPoints("mixed", Callmask, []string{MixedPoint(8000, Alone), MixedPoint(8000, Beside)})
		},
		"throughput": func() (*plot.Plot, error) {
			return r.plotBars("resolve", Saturation, RPS, "answered a second, 64 connections")
		},
		"cpu": func() (*plot.Plot, error) {
			return r.plotBars("resolve", Saturation, ServerCPU, "server CPU for each call, µs")
		},
		"cluster": func() (*plot.Plot, error) {
			return r.plotBars("cluster", RoutersPoint(0, 1), ServerCPU, "router CPU for each call, µs")
		},
		"growth":    func() (*plot.Plot, error) { return r.plotSizes("growth", Callmask, " orders", "active orders") },
		"pool-size": func() (*plot.Plot, error) { return r.plotSizes("pool-size", Scripts, " VNs", "VNs in the pool") },
		"soak":      func() (*plot.Plot, error) { return r.plotSoak() },
	} {
		p, err := draw()
		if err != nil {
			return fmt.Errorf("plot %s: %w", name, err)
		}
		if p == nil {
			continue // not measured
		}
		if err := p.Save(plotWidth, plotHeight, filepath.Join(dir, name+".svg")); err != nil {
			return fmt.Errorf("plot %s: %w", name, err)
		}
	}
	return nil
}

func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.Padding, p.Legend.Top, p.Legend.Left = vg.Points(6), true, true
	p.Add(plotter.NewGrid())
	return p
}

// percentiles gives, for each of load.Quantiles, the median over the rounds.
func (r *Report) percentiles(k Key) plotter.XYs {
	byQuantile := make([][]float64, len(load.Quantiles))
	for i := range r.Samples {
		s := &r.Samples[i]
		if s.Scenario != k.Scenario || s.Variant != k.Variant || s.Point != k.Point || s.Latency == nil {
			continue
		}
		for q, v := range s.Latency.At {
			byQuantile[q] = append(byQuantile[q], v)
		}
	}
	var xys plotter.XYs
	for q, values := range byQuantile {
		if len(values) > 0 {
			xys = append(xys, plotter.XY{X: rarity(load.Quantiles[q]), Y: newStat(values).Median / 1000})
		}
	}
	return xys
}

// rarity is how many calls there are for each one slower than a percentile.
func rarity(percentile float64) float64 { return 100 / (100 - percentile) }

func (r *Report) plotLatency(scenario, point string) (*plot.Plot, error) {
	p := newPlot("Latency at "+point+", from the moment a call was due", "percentile", "milliseconds")
	var lines []any
	for _, variant := range r.Variants(scenario) {
		if xys := r.percentiles(Key{scenario, variant, point}); len(xys) > 0 {
			lines = append(lines, variant, xys)
		}
	}
	return logLines(p, lines)
}

func (r *Report) plotPoints(scenario, variant string, points []string) (*plot.Plot, error) {
	p := newPlot("Latency of calls at 8000/s", "percentile", "milliseconds")
	var lines []any
	for _, point := range points {
		if xys := r.percentiles(Key{scenario, variant, point}); len(xys) > 0 {
			lines = append(lines, point, xys)
		}
	}
	return logLines(p, lines)
}

func logLines(p *plot.Plot, lines []any) (*plot.Plot, error) {
	if len(lines) == 0 {
		return nil, nil //nolint:nilnil // nothing was measured, so there is nothing to draw
	}
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	var ticks plot.ConstantTicks
	for _, q := range []float64{10, 50, 90, 99, 99.9, 99.99} {
		ticks = append(ticks, plot.Tick{Value: rarity(q), Label: "p" + strconv.FormatFloat(q, 'g', -1, 64)})
	}
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks, plot.LogTicks{Prec: -1}
	return p, plotutil.AddLines(p, lines...)
}

// narrow breaks a variant's name into lines that fit below its bar.
var narrow = strings.NewReplacer("callmask, ", "callmask\n", " ", "\n", "+", "\n+", "=", "\n= ")

func (r *Report) plotBars(scenario, point string, m Metric, y string) (*plot.Plot, error) {
	var names []string
	var values plotter.Values
	for _, variant := range r.Variants(scenario) {
		if s := r.Stat(Key{scenario, variant, point}, m); s.N > 0 {
			names, values = append(names, narrow.Replace(variant)), append(values, s.Median)
		}
	}
	if len(values) == 0 {
		return nil, nil //nolint:nilnil // as above
	}
	p := newPlot("Calls at saturation: medians over the rounds", "", y)
	bars, err := plotter.NewBarChart(values, vg.Points(26))
	if err != nil {
		return nil, err
	}
	bars.Color, bars.LineStyle.Width = plotutil.Color(2), 0
	p.Add(bars)
	p.NominalX(names...)
	p.X.Tick.Label.Font.Size = vg.Points(6.5)
	p.X.Min, p.X.Max = -0.6, float64(len(names))-0.4
	p.Y.Min, p.Y.Max = 0, 1.05*slices.Max(values)
	return p, nil
}

// plotSizes draws what things cost against a size that the points name.
func (r *Report) plotSizes(scenario, variant, suffix, x string) (*plot.Plot, error) {
	p := newPlot("CPU time against size: medians over the rounds", x, "µs for each")
	var lines []any
	for _, m := range []struct {
		metric Metric
		name   string
	}{{ServerCPU, "router"}, {StoreCPU, "Redis"}} {
		var xys plotter.XYs
		for _, point := range r.Points(scenario) {
			size, ok := parseShort(strings.TrimSuffix(point, suffix))
			if s := r.Stat(Key{scenario, variant, point}, m.metric); ok && s.N > 0 {
				xys = append(xys, plotter.XY{X: size, Y: s.Median})
			}
		}
		slices.SortFunc(xys, func(a, b plotter.XY) int { return int(math.Copysign(1, a.X-b.X)) })
		if len(xys) > 1 {
			lines = append(lines, m.name, xys)
		}
	}
	if len(lines) == 0 {
		return nil, nil //nolint:nilnil // as above
	}
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Y.Min = 0
	return p, plotutil.AddLinePoints(p, lines...)
}

func (r *Report) plotSoak() (*plot.Plot, error) {
	var xys plotter.XYs
	for _, point := range r.Points("soak") {
		minute, err := strconv.ParseFloat(strings.TrimPrefix(point, "minute "), 64)
		if s := r.Stat(Key{"soak", Callmask, point}, Resident); err == nil && s.N > 0 {
			xys = append(xys, plotter.XY{X: minute, Y: s.Median})
		}
	}
	if len(xys) < 2 {
		return nil, nil //nolint:nilnil // as above
	}
	p := newPlot("Resident memory of the router at saturation", "minute", "MB")
	p.Y.Min = 0
	return p, plotutil.AddLinePoints(p, xys)
}

// parseShort reads what short wrote.
func parseShort(s string) (float64, bool) {
	factor := 1.0
	if t, ok := strings.CutSuffix(s, "M"); ok {
		s, factor = t, 1e6
	} else if t, ok := strings.CutSuffix(s, "k"); ok {
		s, factor = t, 1e3
	}
	n, err := strconv.ParseFloat(s, 64)
	return n * factor, err == nil
}
