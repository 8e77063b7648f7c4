// A function without a body wants a file of this kind in its package.
