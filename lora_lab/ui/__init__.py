"""The tab: gradio lives here and nowhere else. One file for each panel; `tab.py` knows all of them."""
