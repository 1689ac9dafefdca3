package draw

import (
	"fmt"
	"html"
	"strings"
	"unicode/utf8"

	"github.com/dib-builder/dib/internal/blockdev"
)

// Measures of the SVG in its own units (pixels).
const (
	svgWidth  = 960
	svgMargin = 16
	svgBar    = 56
	svgLine   = 20
	svgChar   = 8 // about the width of a character
)

// svgColours are the fills of places, by filesystem type.
var svgColours = map[string]string{
	"ext2": "#9ecae9", "ext3": "#9ecae9", "ext4": "#9ecae9", "xfs": "#b3a2d6", "btrfs": "#d6a2c8",
	"vfat": "#f2cf7f", "fat": "#f2cf7f", "swap": "#f0a58f",
}

// SVG draws every disk to scale, with a line for each place below it.
func SVG(l *blockdev.Layout) string {
	var body strings.Builder
	y := svgMargin
	for i := range l.Disks {
		d := &l.Disks[i]
		y = svgDisk(&body, l, d, y)
	}
	return fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %[1]d %[2]d\" font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n", svgWidth, y) + body.String() + "</svg>\n"
}

func svgDisk(b *strings.Builder, l *blockdev.Layout, d *blockdev.Disk, y int) int {
	text := func(x, y float64, s string) {
		fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%.1f\">%s</text>\n", x, y, html.EscapeString(s))
	}
	y += svgLine
	text(svgMargin, float64(y)-6, heading(l, d))
	scale := float64(svgWidth-2*svgMargin) / float64(max(d.Size, 1))
	var legend []string
	for _, r := range cover(l, d) {
		x, width := svgMargin+float64(r.start)*scale, float64(r.size())*scale
		if r.free {
			fmt.Fprintf(b, "<rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\" fill=\"#eeeeee\" stroke=\"#999999\" stroke-width=\"0.5\"/>\n", x, y, width, svgBar)
			continue
		}
		colour := "#cccccc"
		about := r.title() + ": " + amount(r.size())
		if r.kind != "" {
			about += ", type " + r.kind
		}
		if r.fs != nil {
			if c := svgColours[r.fs.Type]; c != "" {
				colour = c
			}
			about += ", " + r.fs.Type
			if r.fs.Label != "" {
				about += " labelled " + r.fs.Label
			}
		}
		legend = append(legend, about)
		fmt.Fprintf(b, "<rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\" fill=\"%s\" stroke=\"#444444\" stroke-width=\"0.5\"><title>%s</title></rect>\n",
			x, y, width, svgBar, colour, html.EscapeString(about))
		label := r.title()
		if r.number > 0 && float64(utf8.RuneCountInString(label)*svgChar) > width {
			label = fmt.Sprint(r.number)
		}
		if float64(utf8.RuneCountInString(label)*svgChar) <= width {
			text(x+4, float64(y)+svgBar/2+4, label)
		}
	}
	y += svgBar + svgLine
	for _, line := range legend {
		text(svgMargin, float64(y), line)
		y += svgLine
	}
	return y
}
