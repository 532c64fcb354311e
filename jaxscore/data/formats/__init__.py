"""The file formats that `jaxscore.data` reads: one module each, with every file checked before it is used."""
