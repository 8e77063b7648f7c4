// Package bridge shows the windows of a capsule's X server on the user's desktop.
package bridge
