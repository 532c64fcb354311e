"""The file formats that `jaxscore.data` reads: one module each, checked before they are believed."""
