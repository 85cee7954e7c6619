"""The local page: a photograph beside what codecs make of it, served here or as one file.

sources      files and uploads, within limits
photograph   through Softstair at any rate, through peers at the same size
views        what can be looked at; subject: all views of one picture
display      pixels as a file that a browser shows as they are
page         the HTML page with its data; viewer.js and viewer.css are the report's, too
comparison   the page as one file that needs nothing else
server       the page as it is served; pictures: those that it shows; jobs: one job at a time; guard: who
             may ask
"""
