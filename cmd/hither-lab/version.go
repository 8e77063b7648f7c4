package main

// Set by the Makefile.
var (
	version = "dev"
	commit  = ""
)

func versionText() string {
	if commit == "" {
		return version
	}
	return version + " (" + commit + ")"
}
