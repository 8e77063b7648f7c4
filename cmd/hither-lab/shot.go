package main

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// shotCommand writes a picture of $DISPLAY, or of a part of it, to its output. `shot` runs it on the host.
const shotCommand = "__shot"

var errNoDesktop = errors.New("this host has no desktop: `hither-lab status` tells why")

func shotMain(part []string) int {
	x, err := openDesktop()
	if err != nil {
		return complain(err)
	}
	defer x.Close()
	img, err := picture(x)
	if err == nil && len(part) > 0 {
		img, err = cut(img, part)
	}
	if err == nil {
		err = (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(os.Stdout, img)
	}
	if err != nil {
		return complain(fmt.Errorf("taking a picture of display %s: %w", os.Getenv("DISPLAY"), err))
	}
	return 0
}

// cut is the part of a picture that is told by X, Y, WIDTH and HEIGHT.
func cut(img *image.RGBA, part []string) (*image.RGBA, error) {
	var n [4]int
	for i := range n {
		var err error
		if n[i], err = strconv.Atoi(part[i]); err != nil {
			return nil, err
		}
	}
	r := image.Rect(n[0], n[1], n[0]+n[2], n[1]+n[3])
	if r.Empty() || !r.In(img.Rect) {
		return nil, fmt.Errorf("%v is no part of a desktop of %v", r, img.Rect.Size())
	}
	return img.SubImage(r).(*image.RGBA), nil
}

func (o *options) shot() *cobra.Command {
	return &cobra.Command{
		Use:     "shot HOST FILE.png [X Y WIDTH HEIGHT]",
		Short:   "Take a picture of a host's desktop",
		Long:    "Write what a host's desktop shows now, or a part of it, without the pointer, to a file; to the output if it is called -.",
		Example: "  hither-lab exec a -- sh -c 'xclock &'\n  hither-lab shot a a.png",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 && len(args) != 6 {
				return fmt.Errorf("a host, a file and, for a part, four numbers are needed: these are %d words", len(args))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			// This process stays who it is, so that root can write where only root can; the one that
			// enters the host becomes an ordinary user.
			lab := []string{"--lab", o.lab}
			if o.user != "" {
				lab = append(lab, "--user", o.user)
			}
			c := exec.Command("/proc/self/exe", append(lab, "exec", args[0], "--", "hither-lab", shotCommand)...)
			c.Args = append(c.Args, args[2:]...)
			var picture, errs bytes.Buffer
			c.Stdout, c.Stderr = &picture, &errs
			if err := c.Run(); err != nil {
				why := strings.TrimPrefix(strings.TrimSpace(errs.String()), "hither-lab: ")
				if why == "" {
					why = err.Error()
				}
				return fmt.Errorf("taking a picture of host %s: %s", args[0], why)
			}
			if args[1] == "-" {
				_, err := os.Stdout.Write(picture.Bytes())
				return err
			}
			if err := os.WriteFile(args[1], picture.Bytes(), 0o644); err != nil {
				return fmt.Errorf("writing the picture: %w", err)
			}
			return nil
		},
	}
}
