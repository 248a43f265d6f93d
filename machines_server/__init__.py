"""machines-server: which machine holds the model, and how much VRAM is free there?"""
