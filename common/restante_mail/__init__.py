"""The mail library, pure: octets and values in, octets and values out. It imports no other package of this project.

`mime` (parts, facts, text, composing) imports `header` (fields, addresses, dates, trace, edits), which imports
`envelope` (paths, xtext) and `text` (charsets, folding, HTML). All of them may import `canonical`, `octets`, `limits`,
`idset` and `ranges`.
"""
