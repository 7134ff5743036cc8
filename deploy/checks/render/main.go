// Command render prints what a chart's templates come to, as `helm template` would, where there is no Helm: with the
// template engine and the functions that Helm is built on (text/template, sprig), and Helm's own functions as far as
// the chart uses them.
//
//	render CHART [VALUES.yaml…]
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"gopkg.in/yaml.v3"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(chart string, overrides []string) error {
	meta, err := load(filepath.Join(chart, "Chart.yaml"))
	if err != nil {
		return err
	}
	values, err := load(filepath.Join(chart, "values.yaml"))
	if err != nil {
		return err
	}
	for _, path := range overrides {
		more, err := load(path)
		if err != nil {
			return err
		}
		values = merge(values, more)
	}
	data := map[string]interface{}{
		"Values": values,
		"Chart": map[string]interface{}{
			"Name": meta["name"], "Version": meta["version"], "AppVersion": meta["appVersion"],
		},
		"Release": map[string]interface{}{"Name": "ztna", "Namespace": "ztna", "Service": "Helm"},
	}

	root := template.New("chart").Option("missingkey=error")
	functions := sprig.TxtFuncMap()
	// Helm takes these out: a chart must not read the environment of who installs it.
	delete(functions, "env")
	delete(functions, "expandenv")
	functions["include"] = func(name string, data interface{}) (string, error) {
		var out bytes.Buffer
		err := root.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	functions["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	root.Funcs(functions)

	files, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	if err != nil {
		return err
	}
	sort.Strings(files)
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if _, err := root.New(filepath.Base(path)).Parse(string(text)); err != nil {
			return err
		}
	}
	for _, path := range files {
		name := filepath.Base(path)
		var out bytes.Buffer
		if strings.HasPrefix(name, "_") {
			continue
		}
		if err := root.ExecuteTemplate(&out, name, data); err != nil {
			return err
		}
		// Its notes are for people.
		if filepath.Ext(name) == ".yaml" && strings.TrimSpace(out.String()) != "" {
			fmt.Printf("---\n# Source: %s\n%s\n", name, out.String())
		}
	}
	return nil
}

func load(path string) (map[string]interface{}, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var value map[string]interface{}
	if err := yaml.Unmarshal(text, &value); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return value, nil
}

// merge lays values over others, maps into maps.
func merge(under, over map[string]interface{}) map[string]interface{} {
	for key, value := range over {
		below, isMap := under[key].(map[string]interface{})
		above, both := value.(map[string]interface{})
		if isMap && both {
			under[key] = merge(below, above)
		} else {
			under[key] = value
		}
	}
	return under
}
