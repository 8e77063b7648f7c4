package gui

import (
	"fmt"
	"strings"
	"time"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/gui/model"
)

// What is said to people: in their words, without the terms of the trade.

// bytesText counts as the command does, in thousands.
func bytesText(n uint64) string {
	v := float64(n)
	switch {
	case v >= 9.95e9:
		return fmt.Sprintf("%.0f GB", v/1e9)
	case v >= 999.5e6:
		return fmt.Sprintf("%.1f GB", v/1e9)
	case v >= 9.95e6:
		return fmt.Sprintf("%.0f MB", v/1e6)
	case v >= 999.5e3:
		return fmt.Sprintf("%.1f MB", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.0f kB", v/1e3)
	}
	return fmt.Sprintf("%d bytes", n)
}

func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// age is how long something runs, in one unit.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "just started"
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return plural(int(d.Hours()/24), "day", "days")
}

// ago says when something was.
func ago(t time.Time, now time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return ""
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 24*time.Hour && t.Day() == now.Day():
		return "today, " + t.Format("15:04")
	case d < 48*time.Hour && t.AddDate(0, 0, 1).Day() == now.Day():
		return "yesterday, " + t.Format("15:04")
	}
	return t.Format("2 January, 15:04")
}

// span is a duration as a person says it.
func span(ms float64) string {
	switch {
	case ms < 995:
		return fmt.Sprintf("%.0f ms", ms)
	case ms < 9950:
		return fmt.Sprintf("%.1f s", ms/1000)
	case ms < 60_000:
		return fmt.Sprintf("%.0f s", ms/1000)
	}
	return fmt.Sprintf("%d min %d s", int(ms/60_000), int(ms/1000)%60)
}

// appTitle is what a person calls the app.
func appTitle(a control.App) string {
	if a.Title != "" {
		return a.Title
	}
	return a.Name
}

// appFacts are its name where the title is another, memory, and age.
func appFacts(a control.App, now time.Time) string {
	var facts []string
	if a.Title != "" && !strings.EqualFold(a.Title, a.Name) {
		facts = append(facts, a.Name)
	}
	if a.Memory > 0 {
		facts = append(facts, bytesText(a.Memory))
	}
	if !a.Since.IsZero() {
		facts = append(facts, age(now.Sub(a.Since)))
	}
	return strings.Join(facts, " · ")
}

// badge is what an app's card says of moving.
type badge struct {
	text string
	tone tone
	why  []handover.Problem // what stands in the way
}

func appBadge(a control.App) badge {
	switch a.State {
	case "arriving":
		return badge{text: "Arriving", tone: toneAccent}
	case "moving":
		return badge{text: "On its way", tone: toneAccent}
	case "undecided", "waiting":
		return badge{text: "Needs you", tone: toneBad}
	case "gone":
		return badge{text: "Now on " + a.Host, tone: toneGood}
	}
	if len(a.Problems) > 0 {
		return badge{text: "Can't move now", tone: toneWarn, why: a.Problems}
	}
	return badge{text: "Can move", tone: toneGood}
}

// canMove says whether it makes sense to offer it.
func canMove(a control.App) bool { return a.State == "running" || a.State == "" }

// machineFacts are distance, load and memory.
func machineFacts(m model.Machine, now time.Time) string {
	if !m.Paired {
		if m.Up() || m.State == "" || m.State == "unknown" {
			return "Nearby, not paired yet"
		}
		return "Not paired; out of reach"
	}
	if !m.Up() {
		if m.State == "unknown" {
			return "Looking for it…"
		}
		if seen := ago(m.LastSeen, now); seen != "" {
			return "Out of reach · seen " + seen
		}
		return "Out of reach"
	}
	var facts []string
	if m.RTT > 0 {
		facts = append(facts, distance(m.RTT))
	}
	if ab := m.Abilities; ab != nil {
		if ab.CPUs > 0 {
			facts = append(facts, load(ab.Load/float64(ab.CPUs)))
		}
		if ab.MemoryFree > 0 {
			facts = append(facts, bytesText(ab.MemoryFree)+" free")
		}
	}
	if len(facts) == 0 {
		return "Ready"
	}
	return strings.Join(facts, " · ")
}

func distance(rtt float64) string {
	switch {
	case rtt < 1:
		return "< 1 ms away"
	case rtt < 1000:
		return fmt.Sprintf("%.0f ms away", rtt)
	}
	return fmt.Sprintf("%.1f s away", rtt/1000)
}

// load is of one processor.
func load(l float64) string {
	switch {
	case l < 0.3:
		return "idle"
	case l < 0.9:
		return "some load"
	}
	return "busy"
}

// machineLimits is what it cannot take, and why; "" if it takes all.
func machineLimits(m model.Machine) string {
	ab := m.Abilities
	if !m.Paired || !m.Up() || ab == nil {
		return ""
	}
	switch {
	case !ab.Display:
		return "No desktop there: it takes apps for the terminal, and windows only once somebody logs in"
	case ab.MemoryFree > 0 && ab.MemoryFree < 256<<20:
		return "Little memory free there: large apps will not fit"
	}
	return ""
}

// step says what a move is doing.
func step(s handover.State) string {
	switch s {
	case handover.SourceOffer, handover.DestinationOffer:
		return "Asking"
	case handover.SourcePrepare, handover.DestinationPrepare:
		return "Sending files"
	case handover.SourcePreCopy, handover.DestinationPreCopy:
		return "Copying while it runs"
	case handover.SourceFreeze:
		return "Pausing it"
	case handover.SourceMemory, handover.DestinationRestore:
		return "Copying the rest"
	case handover.SourceReady, handover.SourceHold, handover.DestinationReady:
		return "Nearly there"
	case handover.SourceCommit, handover.SourceRelease, handover.SourceSettle, handover.DestinationResume, handover.DestinationSettle:
		return "Waking it up"
	}
	return "Moving"
}

// moveHead says where it goes, and moveDetail how far it is.
func moveHead(m *model.Move) string {
	if m.Cancelling {
		return "Cancelling…"
	}
	said := "Moving to " + m.Peer
	if m.Here {
		said = "Coming from " + m.Peer
	}
	if p := m.Progress; p != nil && p.Total > 0 && p.Left >= 0.5 {
		said += " · " + left(p.Left)
	}
	return said
}

func moveDetail(m *model.Move) string {
	p := m.Progress
	if p == nil {
		return "Asking " + m.Peer + "…"
	}
	if p.Note != "" {
		return strings.ToUpper(p.Note[:1]) + p.Note[1:]
	}
	if p.Total == 0 {
		return step(p.State)
	}
	facts := []string{fmt.Sprintf("%s of %s", bytesText(p.Done), bytesText(p.Total))}
	if p.Rate > 0 {
		facts = append(facts, bytesText(uint64(p.Rate))+"/s")
	}
	if p.Round > 1 {
		facts = append(facts, fmt.Sprintf("round %d", p.Round))
	}
	return strings.Join(facts, " · ")
}

// moveShare is how much of a move is done, from 0 to 1; it never goes back within a step.
func moveShare(m *model.Move) float64 {
	p := m.Progress
	if p == nil {
		return 0
	}
	part := 0.0
	if p.Total > 0 {
		part = min(1, float64(p.Done)/float64(p.Total))
	}
	// Where each step begins and ends on the bar.
	from, to := 0.0, 0.02
	switch p.State {
	case handover.SourcePrepare, handover.DestinationPrepare:
		from, to = 0.02, 0.15
	case handover.SourcePreCopy, handover.DestinationPreCopy:
		from, to = 0.15, 0.75
		if p.Round > 1 {
			from = 0.6
		}
	case handover.SourceFreeze:
		from, to = 0.75, 0.78
	case handover.SourceMemory, handover.DestinationRestore:
		from, to = 0.78, 0.95
		if p.Round == 0 {
			from = 0.15 // nothing was copied before
		}
	case handover.SourceReady, handover.SourceHold, handover.DestinationReady:
		from, to = 0.95, 0.97
	case handover.SourceCommit, handover.DestinationResume, handover.DestinationSettle:
		from, to = 0.97, 0.99
	case handover.SourceRelease, handover.SourceSettle:
		from, to = 0.99, 1
	}
	return from + (to-from)*part
}

// cancellable says whether Cancel still makes sense.
func cancellable(m *model.Move) bool {
	return m.Running() && !m.Cancelling && (m.Progress == nil || m.Progress.State.Cancellable()) && (!m.Elsewhere || m.Task != "")
}

// moveEnd tells how a move ended, and what helps.
func moveEnd(m *model.Move) (said, hint string, t tone) {
	if m.Error != nil {
		said, hint = model.Words(m.Error)
		return "Not moved: " + said, hint, toneBad
	}
	r := m.Result
	if r == nil {
		return "", "", toneGood
	}
	switch r.Outcome {
	case handover.Moved:
		return fmt.Sprintf("Moved in %s; it stood still for %s", span(r.TotalMS), span(r.DowntimeMS)), strings.Join(r.Notes, "\n"), toneGood
	case handover.Undecided:
		return "The link broke at the last moment: " + r.Reason, "Both machines settle it by themselves as soon as they meet again.", toneBad
	}
	if cancelled(m) {
		return "Cancelled; it runs on where it was", "", toneWarn
	}
	said, hint = r.Reason, ""
	if len(r.Problems) > 0 {
		said, hint = r.Problems[0].What, r.Problems[0].Cure
	}
	return "Not moved: " + said, hint, toneWarn
}

// left is how long something will take, in whole units: it changes all the time.
func left(seconds float64) string {
	if seconds < 90 {
		return fmt.Sprintf("%.0f s left", seconds)
	}
	return fmt.Sprintf("%.0f min left", seconds/60)
}

// cancelled says that a move ended because somebody wanted it to.
func cancelled(m *model.Move) bool {
	return m.Result != nil && m.Result.Outcome == handover.Stayed && len(m.Result.Problems) == 0 && (m.Cancelling || strings.Contains(m.Result.Reason, "cancel"))
}

// permitText says what a permission is about; %s is the machine.
var permitText = map[string]string{
	control.PermitSend:  "Send apps to me",
	control.PermitBring: "Take my apps over",
	control.PermitWatch: "See what runs here",
}

var permits = []string{control.PermitSend, control.PermitBring, control.PermitWatch}

var choices = []string{"Always", "Ask me", "Never"}

func choiceText(v string) string {
	switch v {
	case control.Allow:
		return choices[0]
	case control.Deny:
		return choices[2]
	}
	return choices[1]
}

func choiceValue(s string) string {
	switch s {
	case choices[0]:
		return control.Allow
	case choices[2]:
		return control.Deny
	}
	return control.Ask
}

// spaced is a code in two groups, as people read it aloud.
func spaced(code string) string {
	if len(code) == 6 {
		return code[:3] + " " + code[3:]
	}
	return code
}
