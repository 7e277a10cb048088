"""Drawing primitives: SVG elements, axes, lines, bars, heat maps, colours and the page's style sheet."""
