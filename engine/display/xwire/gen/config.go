package main

import (
	"strings"
	"unicode"
)

// choice says what is wanted of a protocol.
type choice struct {
	file     string   // the XML file's name, without .xml
	prefix   string   // before all its names in Go
	requests []string // nil: all
	skip     []string // not these
	events   []string // nil: all
	enums    []string // wanted though no field names them; nil with nil requests: all
}

// choices are the protocols in the order of their imports.
var choices = []choice{
	{file: "xproto", skip: []string{
		"ListFontsWithInfo",                                          // many replies to one request
		"QueryTextExtents", "PolyText8", "PolyText16", "ImageText16", // text drawn by the server
		"ListFonts", "SetFontPath", "GetFontPath", "QueryFont",
		"ChangeHosts", "ListHosts", "SetAccessControl",
	}},
	{file: "bigreq", prefix: "BigReq"},
	{file: "xc_misc", prefix: "XCMisc"},
	{file: "shape", prefix: "Shape"},
	{file: "shm", prefix: "Shm"},
	{file: "sync", prefix: "Sync"},
	{file: "render", prefix: "Render", requests: []string{
		"QueryVersion", "QueryPictFormats", "CreatePicture", "ChangePicture", "SetPictureClipRectangles", "FreePicture", "Composite",
		"FillRectangles", "CreateCursor", "CreateAnimCursor", "SetPictureTransform", "SetPictureFilter", "CreateSolidFill",
	}},
	{file: "xfixes", prefix: "XFixes"},
	{file: "randr", prefix: "RandR", requests: []string{
		"QueryVersion", "SelectInput", "GetScreenInfo", "SetScreenConfig", "GetScreenSizeRange", "SetScreenSize", "GetScreenResources", "GetOutputInfo",
		"ListOutputProperties", "GetOutputProperty", "CreateMode", "DestroyMode", "AddOutputMode", "DeleteOutputMode",
		"GetCrtcInfo", "SetCrtcConfig", "GetScreenResourcesCurrent", "SetOutputPrimary", "GetOutputPrimary",
		"GetMonitors", "SetMonitor", "DeleteMonitor",
	}},
	{file: "composite", prefix: "Composite"},
	{file: "damage", prefix: "Damage"},
	{file: "xtest", prefix: "XTest"},
	{file: "res", prefix: "Res", requests: []string{"QueryVersion", "QueryClients", "QueryClientResources", "QueryClientPixmapBytes", "QueryClientIds"}, events: []string{}},
	{file: "xinput", prefix: "XI", requests: []string{
		"XIQueryVersion", "XIQueryDevice", "XISelectEvents", "XIGetSelectedEvents", "XIQueryPointer", "XIGetClientPointer", "XISetFocus", "XIGetFocus",
		"XIGrabDevice", "XIUngrabDevice", "XIAllowEvents",
	}, events: []string{
		"DeviceChanged", "KeyPress", "KeyRelease", "ButtonPress", "ButtonRelease", "Motion", "Enter", "Leave", "FocusIn", "FocusOut",
		"RawKeyPress", "RawKeyRelease", "RawButtonPress", "RawButtonRelease", "RawMotion", "Hierarchy",
	}, enums: []string{"Device", "DeviceClassType", "ScrollType", "ScrollFlags", "DeviceType"}},
	{file: "xkb", prefix: "Xkb", requests: []string{
		"UseExtension", "SelectEvents", "Bell", "GetState", "LatchLockState", "GetControls", "SetControls", "GetMap", "SetMap", "GetCompatMap", "SetCompatMap",
		"GetIndicatorState", "GetIndicatorMap", "SetIndicatorMap", "GetNames", "SetNames", "PerClientFlags",
	}, events: []string{
		"NewKeyboardNotify", "MapNotify", "StateNotify", "ControlsNotify", "IndicatorStateNotify", "IndicatorMapNotify", "NamesNotify", "CompatMapNotify", "BellNotify",
	}, enums: []string{"ID"}},
}

// renamed are types whose name would not do in Go, or would be taken.
var renamed = map[string]string{
	"xproto.VISUALID": "VisualID", "xproto.VISUALTYPE": "VisualType", "xproto.GCONTEXT": "GContext", "xproto.CHAR2B": "Char2B",
	"xproto.STR": "Str", "xproto.COLORITEM": "ColorItem", "xproto.TIMECOORD": "TimeCoord",
	"xkb.ID": "XkbID", "xproto.CW": "CW", "xproto.GC": "GC", "xproto.GX": "GX", "xproto.KB": "KB", "render.CP": "RenderCP",
	"sync.CA": "SyncCA", "sync.ALARMSTATE": "SyncAlarmState", "sync.TESTTYPE": "SyncTestType", "sync.VALUETYPE": "SyncValueType",
	"sync.SYSTEMCOUNTER": "SyncSystemCounter", "sync.WAITCONDITION": "SyncWaitCondition",
	"render.PICTFORMAT": "RenderPictFormat", "render.PICTFORMINFO": "RenderPictFormInfo", "render.PICTVISUAL": "RenderPictVisual",
	"render.PICTDEPTH": "RenderPictDepth", "render.PICTSCREEN": "RenderPictScreen", "render.DIRECTFORMAT": "RenderDirectFormat",
	"render.ANIMCURSORELT": "RenderAnimCursorElt", "render.POINTFIX": "RenderPointFix",
	"xinput.DeviceId": "XIDeviceID", "xinput.EventMask": "XIDeviceEventMask",
}

// rawTails are requests and replies whose lists are left as bytes.
var rawTails = map[string]bool{
	"xkb.SelectEvents": true, "xkb.GetMap.reply": true, "xkb.SetMap": true, "xkb.GetCompatMap.reply": true, "xkb.SetCompatMap": true,
	"xkb.GetIndicatorMap.reply": true, "xkb.SetIndicatorMap": true, "xkb.GetNames.reply": true, "xkb.SetNames": true,
}

// rawLengths are the sizes of switches that are left as bytes in a struct.
var rawLengths = map[string]string{
	"xinput.DeviceClass": "int(v.Len)*4 - 6",
}

// computed are fields of requests that follow from other parameters.
var computed = map[string]string{
	"xproto.ChangeProperty.data_len": "propertyUnits(format, len(data))",
}

// valueListNames are the Go names of the value lists, by their mask.
var valueListNames = map[string]string{
	"xproto.CW": "WindowValues", "xproto.ConfigWindow": "ConfigureValues", "xproto.GC": "GCValues", "xproto.KB": "KeyboardValues",
	"render.CP": "RenderPictureValues", "sync.CA": "SyncAlarmValues",
}

// parameterNames replace those that Go or the generated code needs itself.
var parameterNames = map[string]string{
	"type": "typ", "map": "mapping", "range": "rng", "string": "text", "len": "length", "func": "function", "function": "function",
	"c": "cc", "e": "ee", "n": "nn", "r": "rr", "select": "sel", "interface": "iface", "copy": "cp", "import": "imp",
	"bool": "boolean", "error": "err", "new": "newName", "delete": "del", "clear": "clr", "close": "cls", "default": "def", "return": "ret",
	"cap": "capacity", "min": "minimum", "max": "maximum",
}

func parameter(name string) string {
	s := camel(name)
	// The leading capitals go small: WindowID -> windowID, XId -> xid.
	runes := []rune(s)
	for i := range runes {
		if i > 0 && i+1 < len(runes) && unicode.IsLower(runes[i+1]) {
			break
		}
		if !unicode.IsUpper(runes[i]) {
			break
		}
		runes[i] = unicode.ToLower(runes[i])
	}
	s = string(runes)
	if r, ok := parameterNames[s]; ok {
		return r
	}
	return s
}

// camel turns VALUE_MASK, value_mask and valueMask into ValueMask.
func camel(s string) string {
	upper := s == strings.ToUpper(s)
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == '_' || r == '-' })
	var b strings.Builder
	for _, part := range parts {
		if upper {
			part = strings.ToLower(part)
		}
		r := []rune(part)
		r[0] = unicode.ToUpper(r[0])
		b.WriteString(string(r))
	}
	return b.String()
}

// typeName is the Go name for a name of the protocol.
func (p *protocol) typeName(xml string) string {
	if r, ok := renamed[p.file+"."+xml]; ok {
		return r
	}
	return p.prefixed(camel(xml))
}

func (p *protocol) prefixed(name string) string {
	if p.prefix == "XI" && strings.HasPrefix(name, "XI") {
		return name
	}
	return p.prefix + name
}
