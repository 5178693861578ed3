"""What people look at after a run: curves as pictures, figures as a workbook. Knows of no run, folder or socket."""
