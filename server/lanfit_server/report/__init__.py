"""Reports after a run: curves as images, metrics as a workbook. Independent of runs, folders and sockets."""
