package restante

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"strings"
	"testing"
)

func TestEveryPublicNameIsDocumented(t *testing.T) {
	written := func(file fs.FileInfo) bool { return !strings.HasSuffix(file.Name(), "_test.go") }
	packages, err := parser.ParseDir(token.NewFileSet(), ".", written, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	check := func(name *ast.Ident, documented ...*ast.CommentGroup) {
		if !name.IsExported() {
			return
		}
		names++
		for _, comment := range documented {
			if comment.Text() != "" {
				return
			}
		}
		t.Errorf("%s has no comment", name.Name)
	}
	for _, file := range packages["restante"].Files {
		for _, declaration := range file.Decls {
			switch is := declaration.(type) {
			case *ast.FuncDecl:
				if is.Recv == nil || ofPublic(is.Recv) {
					check(is.Name, is.Doc)
				}
			case *ast.GenDecl:
				for _, spec := range is.Specs {
					switch one := spec.(type) {
					case *ast.ValueSpec:
						check(one.Names[0], one.Doc, one.Comment, is.Doc)
					case *ast.TypeSpec:
						check(one.Name, one.Doc, is.Doc)
						if fields, ok := one.Type.(*ast.StructType); ok && one.Name.IsExported() {
							checkFields(fields, check)
						}
					}
				}
			}
		}
	}
	if names < 150 {
		t.Errorf("only %d names were found", names)
	}
}

// checkFields allows a run of fields to share the comment above the first of them.
func checkFields(of *ast.StructType, check func(*ast.Ident, ...*ast.CommentGroup)) {
	var above *ast.CommentGroup
	for _, field := range of.Fields.List {
		if field.Doc.Text() != "" {
			above = field.Doc
		}
		for _, name := range field.Names {
			check(name, field.Doc, field.Comment, above)
		}
	}
}

// ofPublic tells whether a method is of a public type.
func ofPublic(receiver *ast.FieldList) bool {
	kind := receiver.List[0].Type
	if pointer, ok := kind.(*ast.StarExpr); ok {
		kind = pointer.X
	}
	name, ok := kind.(*ast.Ident)
	return ok && name.IsExported()
}
